-- Which session started another one and waits for it.
ALTER TABLE sessions ADD COLUMN parent TEXT;

-- Of all sessions few wait for another one, and few that another one started are not over.
CREATE INDEX sessions_waiting ON sessions (reason, session) WHERE reason = 'child';
CREATE INDEX sessions_children ON sessions (durable, state, tenant, parent) WHERE parent IS NOT NULL AND state IN ('open', 'suspended');
