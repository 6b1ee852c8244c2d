-- The core tables of the CRM template. create_crm replaces @schema@, @owner@ and @partition_by_org@
-- and runs the text as the owner role, so every object belongs to that role from its first moment.

-- roles ---------------------------------------------------------------------------------------

CREATE TABLE @schema@.role (
    org_id            uuid        NOT NULL DEFAULT crm_tree.current_org(),
    role_id           uuid        NOT NULL DEFAULT gen_random_uuid(),
    parent_role_id    uuid,
    name              text        NOT NULL CHECK (name <> ''),
    custom            jsonb       NOT NULL DEFAULT '{}',
    materialized_path text        COLLATE "C",
    depth             int,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, role_id),
    FOREIGN KEY (org_id, parent_role_id) REFERENCES @schema@.role (org_id, role_id)
) @partition_by_org@;
COMMENT ON TABLE @schema@.role IS 'The sales organisation: a tree of roles. Whoever holds a role sees the accounts owned by the roles below it.';
COMMENT ON COLUMN @schema@.role.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.role.parent_role_id IS 'The role above; null at the top.';
COMMENT ON COLUMN @schema@.role.custom IS 'Fields of your own.';
COMMENT ON COLUMN @schema@.role.materialized_path IS 'Kept by crm_tree: /root/…/this role/';
COMMENT ON COLUMN @schema@.role.depth IS 'Kept by crm_tree: 0 at the top.';

CREATE TABLE @schema@.app_user (
    org_id            uuid        NOT NULL DEFAULT crm_tree.current_org(),
    user_id           text        NOT NULL CHECK (user_id <> ''),
    email             text        CHECK (email <> ''),
    display_name      text        NOT NULL CHECK (display_name <> ''),
    role_id           uuid,
    active            boolean     NOT NULL DEFAULT true,
    custom            jsonb       NOT NULL DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, user_id),
    FOREIGN KEY (org_id, role_id) REFERENCES @schema@.role (org_id, role_id)
) @partition_by_org@;
CREATE INDEX app_user_role_idx ON @schema@.app_user (org_id, role_id);
COMMENT ON TABLE @schema@.app_user IS 'The people of an org, as the application knows them. No database role stands behind a row.';
COMMENT ON COLUMN @schema@.app_user.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.app_user.user_id IS 'The id given to crm_tree.bind_org(org, user_id).';
COMMENT ON COLUMN @schema@.app_user.role_id IS 'The role held; null: sees nothing through the role tree.';
COMMENT ON COLUMN @schema@.app_user.active IS 'An inactive user has no access, whatever the sources say.';
COMMENT ON COLUMN @schema@.app_user.custom IS 'Fields of your own.';

-- accounts ------------------------------------------------------------------------------------

CREATE TABLE @schema@.account (
    org_id            uuid         NOT NULL DEFAULT crm_tree.current_org(),
    account_id        uuid         NOT NULL DEFAULT gen_random_uuid(),
    parent_account_id uuid,
    ownership_pct     numeric(7,4) NOT NULL DEFAULT 100 CHECK (ownership_pct BETWEEN 0 AND 100),
    name              text         NOT NULL CHECK (name <> ''),
    owner_user_id     text,
    custom            jsonb        NOT NULL DEFAULT '{}',
    materialized_path text         COLLATE "C",
    depth             int,
    created_at        timestamptz  NOT NULL DEFAULT now(),
    updated_at        timestamptz  NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, account_id),
    FOREIGN KEY (org_id, parent_account_id) REFERENCES @schema@.account (org_id, account_id),
    FOREIGN KEY (org_id, owner_user_id) REFERENCES @schema@.app_user (org_id, user_id)
) @partition_by_org@;
CREATE INDEX account_owner_idx ON @schema@.account (org_id, owner_user_id);
-- With what a rollup asks of an account: it reads this index and that of the snapshots, and no row.
CREATE INDEX account_path_idx ON @schema@.account (org_id, materialized_path) INCLUDE (account_id, ownership_pct);
COMMENT ON TABLE @schema@.account IS 'Customers, as a tree. A re-org is UPDATE … SET parent_account_id; the paths follow.';
COMMENT ON COLUMN @schema@.account.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.account.parent_account_id IS 'The account above; null for an ultimate parent.';
COMMENT ON COLUMN @schema@.account.ownership_pct IS 'How much of this account the parent account owns, in percent. With the second parents'' shares at most 100.';
COMMENT ON COLUMN @schema@.account.owner_user_id IS 'The user responsible for the account.';
COMMENT ON COLUMN @schema@.account.custom IS 'Fields of your own.';
COMMENT ON COLUMN @schema@.account.materialized_path IS 'Kept by crm_tree: /root/…/this account/';
COMMENT ON COLUMN @schema@.account.depth IS 'Kept by crm_tree: 0 for an ultimate parent.';

CREATE TABLE @schema@.account_link (
    org_id            uuid         NOT NULL DEFAULT crm_tree.current_org(),
    parent_account_id uuid         NOT NULL,
    child_account_id  uuid         NOT NULL,
    ownership_pct     numeric(7,4) NOT NULL CHECK (ownership_pct BETWEEN 0 AND 100),
    created_at        timestamptz  NOT NULL DEFAULT now(),
    updated_at        timestamptz  NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, parent_account_id, child_account_id),
    FOREIGN KEY (org_id, parent_account_id) REFERENCES @schema@.account (org_id, account_id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, child_account_id) REFERENCES @schema@.account (org_id, account_id) ON DELETE CASCADE,
    CONSTRAINT account_link_not_itself CHECK (parent_account_id <> child_account_id)
) @partition_by_org@;
CREATE INDEX account_link_child_idx ON @schema@.account_link (org_id, child_account_id);
COMMENT ON TABLE @schema@.account_link IS 'Second parents (joint ventures), beside the one parent in the account tree.';
COMMENT ON COLUMN @schema@.account_link.org_id IS 'The org (tenant) the row belongs to; filled with the bound org.';
COMMENT ON COLUMN @schema@.account_link.ownership_pct IS 'How much of the child this further parent owns, in percent.';

-- Trees and walls of the tables above. Both functions are the engine's; nothing of them is copied here.
SELECT crm_tree.protect('@schema@.role');
SELECT crm_tree.protect('@schema@.app_user');
SELECT crm_tree.protect('@schema@.account');
SELECT crm_tree.protect('@schema@.account_link');
SELECT crm_tree.attach_tree('@schema@.role', id => 'role_id', parent => 'parent_role_id');
SELECT crm_tree.attach_tree('@schema@.account', id => 'account_id', parent => 'parent_account_id', history => true);
SELECT crm_tree.attach_links('@schema@.account_link', '@schema@.account', parent => 'parent_account_id', child => 'child_account_id',
    pct => 'ownership_pct', tree_pct => 'ownership_pct');

-- updated_at. touch_updated_at() knows itself when the engine is rewriting paths; the WHEN only saves
-- the call for each row of a subtree that moves. The name sorts behind the engine's triggers, which
-- put back a path that a statement tried to set, before the WHEN looks at it.
CREATE TRIGGER zzz_touch BEFORE UPDATE ON @schema@.role FOR EACH ROW
    WHEN (OLD.parent_role_id IS DISTINCT FROM NEW.parent_role_id
          OR (OLD.materialized_path IS NOT DISTINCT FROM NEW.materialized_path
              AND OLD.depth IS NOT DISTINCT FROM NEW.depth))
    EXECUTE FUNCTION crm_tree.touch_updated_at();
CREATE TRIGGER zzz_touch BEFORE UPDATE ON @schema@.account FOR EACH ROW
    WHEN (OLD.parent_account_id IS DISTINCT FROM NEW.parent_account_id
          OR (OLD.materialized_path IS NOT DISTINCT FROM NEW.materialized_path
              AND OLD.depth IS NOT DISTINCT FROM NEW.depth))
    EXECUTE FUNCTION crm_tree.touch_updated_at();
CREATE TRIGGER zzz_touch BEFORE UPDATE ON @schema@.app_user FOR EACH ROW EXECUTE FUNCTION crm_tree.touch_updated_at();
CREATE TRIGGER zzz_touch BEFORE UPDATE ON @schema@.account_link FOR EACH ROW EXECUTE FUNCTION crm_tree.touch_updated_at();
