-- What agents may do only once somebody has approved of it: each row is one call, bound to its session, tool, arguments and policy. What was asked and
-- why it was decided is in the journal, sealed; here is only what a decision hangs on.

CREATE TABLE approvals (
    tenant TEXT COLLATE "C" NOT NULL REFERENCES tenants (tenant) ON DELETE CASCADE,
    approval TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    agent TEXT COLLATE "C" NOT NULL,
    principal TEXT COLLATE "C" NOT NULL,
    tool TEXT COLLATE "C" NOT NULL,
    arguments BYTEA NOT NULL,
    policy BYTEA NOT NULL,
    by_another BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'used', 'refused')),
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    decided_ms BIGINT,
    decided_by TEXT COLLATE "C",
    used_ms BIGINT,
    outcome_ms BIGINT,
    outcome TEXT COLLATE "C",
    PRIMARY KEY (tenant, approval)
);

CREATE INDEX approvals_of_session ON approvals (tenant, session);
CREATE UNIQUE INDEX approvals_of_all ON approvals (approval);
CREATE INDEX approvals_changed ON approvals (changed_ms);
CREATE INDEX approvals_pending ON approvals (approval) WHERE state = 'pending';

ALTER TABLE approvals ENABLE ROW LEVEL SECURITY;
ALTER TABLE approvals FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON approvals TO ambit_app
    USING (tenant = current_setting('ambit.tenant', true))
    WITH CHECK (tenant = current_setting('ambit.tenant', true));
GRANT SELECT, INSERT, UPDATE ON approvals TO ambit_app;
CREATE POLICY all_rows ON approvals TO ambit_operator USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON approvals TO ambit_operator;
