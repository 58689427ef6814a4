-- Money, as whole nano-units: what may be spent, what is, and what was. Only the journal's writer reserves and settles, in the
-- transactions of the events that say so. No foreign keys but the budgets': the rest is written with every model call.

-- `scope` is the id of a key, agent or session, `*` for each of them, empty for the tenant.
CREATE TABLE budgets (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    scope TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    period TEXT COLLATE "C" NOT NULL,
    cap BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind, scope, period)
);

-- What counts against a budget in its current window. A later window begins the row anew; an earlier one never does.
CREATE TABLE accounts (
    tenant TEXT COLLATE "C" NOT NULL,
    scope TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    period TEXT COLLATE "C" NOT NULL,
    window_ms BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    settled BIGINT NOT NULL,
    PRIMARY KEY (tenant, scope, kind, period)
);

-- `charges`: the accounts it counts in, with the windows it did so in.
CREATE TABLE reservations (
    tenant TEXT COLLATE "C" NOT NULL,
    reservation TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    amount BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    agent TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    charges TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    cost BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    PRIMARY KEY (tenant, reservation)
);

CREATE INDEX reservations_by_session ON reservations (tenant, session);
CREATE INDEX reservations_outstanding ON reservations (tenant, reservation) WHERE state = 'reserved';

-- What was settled, by the day it was reserved on. `carried` is the part of `cost` whose sessions and reservations are removed.
CREATE TABLE spending (
    tenant TEXT COLLATE "C" NOT NULL,
    day BIGINT NOT NULL,
    agent TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    calls BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    carried BIGINT NOT NULL,
    PRIMARY KEY (tenant, day, agent, key_id, provider, model)
);

ALTER TABLE budgets ENABLE ROW LEVEL SECURITY;
ALTER TABLE budgets FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON budgets TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON budgets TO ambit_app;

ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE accounts FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON accounts TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE ON accounts TO ambit_app;
CREATE POLICY all_rows ON accounts TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON accounts TO ambit_operator;

ALTER TABLE reservations ENABLE ROW LEVEL SECURITY;
ALTER TABLE reservations FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON reservations TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE ON reservations TO ambit_app;
CREATE POLICY all_rows ON reservations TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON reservations TO ambit_operator;

ALTER TABLE spending ENABLE ROW LEVEL SECURITY;
ALTER TABLE spending FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON spending TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE ON spending TO ambit_app;
CREATE POLICY all_rows ON spending TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON spending TO ambit_operator;
