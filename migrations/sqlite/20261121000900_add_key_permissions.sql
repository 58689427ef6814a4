-- What a key narrows every component to: JSON, as in a grant.

ALTER TABLE api_keys ADD COLUMN permissions TEXT;
