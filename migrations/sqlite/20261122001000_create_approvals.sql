-- What agents may do only once somebody has approved of it: each row is one call, bound to its session, tool, arguments and policy. What was asked and
-- why it was decided is in the journal, sealed; here is only what a decision hangs on.

CREATE TABLE approvals (
    tenant TEXT NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    approval TEXT NOT NULL,
    session TEXT NOT NULL,
    agent TEXT NOT NULL,
    principal TEXT NOT NULL,
    tool TEXT NOT NULL,
    arguments BLOB NOT NULL,
    policy BLOB NOT NULL,
    by_another INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'used', 'refused')),
    created_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    decided_ms INTEGER,
    decided_by TEXT,
    used_ms INTEGER,
    outcome_ms INTEGER,
    outcome TEXT,
    PRIMARY KEY (tenant, approval)
) STRICT;

CREATE INDEX approvals_of_session ON approvals (tenant, session);
CREATE UNIQUE INDEX approvals_of_all ON approvals (approval);
CREATE INDEX approvals_changed ON approvals (changed_ms);
CREATE INDEX approvals_pending ON approvals (approval) WHERE state = 'pending';
