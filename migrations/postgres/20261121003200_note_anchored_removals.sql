-- Which anchor says of a day that it was removed: what no anchor says yet is the next one's. Before, the anchor that followed a removal said so.

ALTER TABLE partitions ADD COLUMN removed_anchor BIGINT;

-- The wall is in the way of whoever migrates as well.
ALTER TABLE partitions NO FORCE ROW LEVEL SECURITY;
UPDATE partitions SET removed_anchor = (SELECT MAX(number) FROM anchors)
    WHERE removed_ms IS NOT NULL AND removed_ms <= (SELECT MAX(time_ms) FROM anchors);
ALTER TABLE partitions FORCE ROW LEVEL SECURITY;
