-- The rivals of ncbi.sh, each with the best triggers we can write: the same rows, key and foreign key. None of
-- them promises anything under concurrency: they take no locks.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION ltree;

-- Parent links alone, for recursive queries.
CREATE TABLE adjacency (org_id bigint NOT NULL DEFAULT 1, id bigint NOT NULL, parent_id bigint,
    PRIMARY KEY (org_id, id), FOREIGN KEY (org_id, parent_id) REFERENCES adjacency (org_id, id));
CREATE INDEX ON adjacency (org_id, parent_id);

CREATE TABLE ltree_node (org_id bigint NOT NULL DEFAULT 1, id bigint NOT NULL, parent_id bigint, path ltree,
    PRIMARY KEY (org_id, id), FOREIGN KEY (org_id, parent_id) REFERENCES ltree_node (org_id, id));
CREATE INDEX ON ltree_node (org_id, parent_id);
CREATE INDEX ON ltree_node USING gist (path) WHERE path IS NOT NULL;

-- Rows that came before their parents, by the set and in path order; a look into an index for each.
CREATE FUNCTION ltree_fill() RETURNS trigger LANGUAGE plpgsql
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_material = off SET enable_memoize = off SET work_mem = '256MB'
AS $$
BEGIN
    WITH RECURSIVE placed AS (
        SELECT n.org_id, n.id, coalesce(p.path || n.id::text, n.id::text::ltree) AS path
          FROM new_rows n LEFT JOIN ltree_node p ON p.org_id = n.org_id AND p.id = n.parent_id
         WHERE n.path IS NULL AND (n.parent_id IS NULL OR p.path IS NOT NULL)
        UNION ALL
        SELECT c.org_id, c.id, placed.path || c.id::text
          FROM placed JOIN ltree_node c ON c.org_id = placed.org_id AND c.parent_id = placed.id
         WHERE (c.path IS NULL) IS TRUE
    )
    UPDATE ltree_node t SET path = s.path FROM (SELECT * FROM placed ORDER BY path) s WHERE t.org_id = s.org_id AND t.id = s.id;
    RETURN NULL;
END $$;
CREATE TRIGGER fill AFTER INSERT ON ltree_node REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ltree_fill();
-- A row whose parent is there needs no second version. Enabled after the load, which it would only slow down.
CREATE FUNCTION ltree_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.parent_id IS NULL THEN
        NEW.path := NEW.id::text::ltree;
    ELSE
        SELECT p.path || NEW.id::text INTO NEW.path FROM ltree_node p WHERE p.org_id = NEW.org_id AND p.id = NEW.parent_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER place BEFORE INSERT ON ltree_node FOR EACH ROW EXECUTE FUNCTION ltree_place();
ALTER TABLE ltree_node DISABLE TRIGGER place;
CREATE FUNCTION ltree_move() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    above ltree;
BEGIN
    SELECT p.path INTO above FROM ltree_node p WHERE p.org_id = NEW.org_id AND p.id = NEW.parent_id;
    IF above <@ OLD.path THEN
        RAISE EXCEPTION 'cycle';
    END IF;
    above := coalesce(above, ''::ltree);
    UPDATE ltree_node t SET path = above || subpath(t.path, nlevel(OLD.path) - 1)
     WHERE t.org_id = NEW.org_id AND t.path <@ OLD.path;
    RETURN NULL;
END $$;
CREATE TRIGGER move AFTER UPDATE OF parent_id ON ltree_node FOR EACH ROW
    WHEN (OLD.parent_id IS DISTINCT FROM NEW.parent_id) EXECUTE FUNCTION ltree_move();

-- Every pair of a node and one above it, itself included. Unlogged, in its favour: some 50 million rows.
CREATE TABLE closure_node (org_id bigint NOT NULL DEFAULT 1, id bigint NOT NULL, parent_id bigint,
    PRIMARY KEY (org_id, id), FOREIGN KEY (org_id, parent_id) REFERENCES closure_node (org_id, id));
CREATE INDEX ON closure_node (org_id, parent_id);
CREATE UNLOGGED TABLE closure (org_id bigint NOT NULL, ancestor bigint NOT NULL, descendant bigint NOT NULL,
    PRIMARY KEY (org_id, ancestor, descendant));
CREATE INDEX ON closure (org_id, descendant, ancestor);

CREATE FUNCTION closure_fill() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off SET enable_mergejoin = off SET work_mem = '1GB'
AS $$
BEGIN
    INSERT INTO closure
    WITH RECURSIVE up AS (
        SELECT n.org_id, n.id AS ancestor, n.id AS descendant FROM new_rows n
        UNION ALL
        SELECT t.org_id, t.parent_id, up.descendant
          FROM up JOIN closure_node t ON t.org_id = up.org_id AND t.id = up.ancestor WHERE t.parent_id IS NOT NULL
    )
    SELECT * FROM up ORDER BY org_id, ancestor, descendant;
    RETURN NULL;
END $$;
CREATE TRIGGER fill AFTER INSERT ON closure_node REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION closure_fill();
-- In its place after the load: of a row whose parent is there.
CREATE FUNCTION closure_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO closure
    SELECT c.org_id, c.ancestor, NEW.id FROM closure c WHERE c.org_id = NEW.org_id AND c.descendant = NEW.parent_id
    UNION ALL SELECT NEW.org_id, NEW.id, NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER place AFTER INSERT ON closure_node FOR EACH ROW EXECUTE FUNCTION closure_place();
ALTER TABLE closure_node DISABLE TRIGGER place;
CREATE FUNCTION closure_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM closure c WHERE c.org_id = NEW.org_id AND c.ancestor = NEW.id AND c.descendant = NEW.parent_id) THEN
        RAISE EXCEPTION 'cycle';
    END IF;
    DELETE FROM closure c USING closure below, closure above
     WHERE below.org_id = NEW.org_id AND below.ancestor = NEW.id
       AND above.org_id = NEW.org_id AND above.descendant = NEW.id AND above.ancestor <> NEW.id
       AND c.org_id = NEW.org_id AND c.ancestor = above.ancestor AND c.descendant = below.descendant;
    INSERT INTO closure
    SELECT above.org_id, above.ancestor, below.descendant FROM closure above, closure below
     WHERE above.org_id = NEW.org_id AND above.descendant = NEW.parent_id
       AND below.org_id = NEW.org_id AND below.ancestor = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER move AFTER UPDATE OF parent_id ON closure_node FOR EACH ROW
    WHEN (OLD.parent_id IS DISTINCT FROM NEW.parent_id) EXECUTE FUNCTION closure_move();
