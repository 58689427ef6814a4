-- Money, as whole nano-units: what may be spent, what is, and what was. Only the journal's writer reserves and settles, in the
-- transactions of the events that say so. No foreign keys but the budgets': the rest is written with every model call.

-- `scope` is the id of a key, agent or session, `*` for each of them, empty for the tenant.
CREATE TABLE budgets (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    scope TEXT NOT NULL,
    kind TEXT NOT NULL,
    period TEXT NOT NULL,
    cap INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, scope, period)
) STRICT;

-- What counts against a budget in its current window. A later window begins the row anew; an earlier one never does.
CREATE TABLE accounts (
    tenant TEXT NOT NULL,
    scope TEXT NOT NULL,
    kind TEXT NOT NULL,
    period TEXT NOT NULL,
    window_ms INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    PRIMARY KEY (tenant, scope, kind, period)
) STRICT;

-- `charges`: the accounts it counts in, with the windows it did so in.
CREATE TABLE reservations (
    tenant TEXT NOT NULL,
    reservation TEXT NOT NULL,
    session TEXT NOT NULL,
    amount INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    agent TEXT NOT NULL,
    key_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    charges TEXT NOT NULL,
    state TEXT NOT NULL,
    cost INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    PRIMARY KEY (tenant, reservation)
) STRICT;

CREATE INDEX reservations_by_session ON reservations (tenant, session);
CREATE INDEX reservations_outstanding ON reservations (tenant, reservation) WHERE state = 'reserved';

-- What was settled, by the day it was reserved on. `carried` is the part of `cost` whose sessions and reservations are removed.
CREATE TABLE spending (
    tenant TEXT NOT NULL,
    day INTEGER NOT NULL,
    agent TEXT NOT NULL,
    key_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    carried INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, agent, key_id, provider, model)
) STRICT;
