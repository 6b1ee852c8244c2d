-- An account is seen by its owner, by everyone above the owner in the sales organisation, and by those
-- it was shared with. A grant holds for all accounts below, too. Who sees J.P. Morgan SE, and why:

BEGIN; SELECT crm_tree.bind_org('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid);
SELECT u.display_name, l.permission_level AS level, s ->> 'granted_via' AS via,
       coalesce(s -> 'inherited_from' ->> 'name', 'the account itself') AS granted_on
  FROM crm.account a CROSS JOIN crm.list_users(a.account_id) l
  JOIN crm.app_user u ON u.user_id = l.user_id
 CROSS JOIN LATERAL (
       SELECT crm.explain_access(l.user_id, a.account_id) -> 'sources' -> 0) AS x (s)
 WHERE a.name = 'J.P. Morgan SE' ORDER BY granted_on DESC, via, 1;

-- Ingrid Solberg sees it through her role. The way from her down to the owner:
SELECT jsonb_array_elements_text(crm.explain_access('ingrid.solberg', account_id)
                                 -> 'sources' -> 0 -> 'role_path') AS role
  FROM crm.account WHERE name = 'J.P. Morgan SE';

-- Now the account goes to Mei Lin Zhou in Asia, and another is shared with her director by hand:
UPDATE crm.account SET owner_user_id = 'mei.lin.zhou' WHERE name = 'J.P. Morgan SE';
INSERT INTO crm.account_share (account_id, user_id, permission_level)
SELECT account_id, 'priya.nair', 'read' FROM crm.account
 WHERE name = 'J.P. Morgan Capital Holdings Limited';

-- Access is computed by a job, so nothing has changed yet. sharing_drift() knows what is due:
PREPARE may_see AS
SELECT c.who, a.name AS account, crm.check_access(c.who, a.account_id, 'read') AS may_see
  FROM (VALUES ('lukas.brandt', 'J.P. Morgan SE'), ('ingrid.solberg', 'J.P. Morgan SE'),
               ('mei.lin.zhou', 'J.P. Morgan SE'), ('priya.nair', 'J.P. Morgan Securities plc')
       ) AS c (who, account) JOIN crm.account a ON a.name = c.account ORDER BY account, who;
EXECUTE may_see;
--check (SELECT string_agg(left(crm.check_access(c.who, a.account_id, 'read')::text, 1), '' ORDER BY n) = 'ttff' FROM (VALUES (1, 'lukas.brandt', 'J.P. Morgan SE'), (2, 'ingrid.solberg', 'J.P. Morgan SE'), (3, 'mei.lin.zhou', 'J.P. Morgan SE'), (4, 'priya.nair', 'J.P. Morgan Securities plc')) AS c (n, who, account) JOIN crm.account a ON a.name = c.account)
SELECT count(*) FILTER (WHERE bridge_level IS NULL) AS to_be_added,
       count(*) FILTER (WHERE source_level IS NULL) AS to_be_removed FROM crm.sharing_drift();

-- The recompute writes the differences only:
SELECT * FROM crm.recompute_sharing('full');
EXECUTE may_see;
--check (SELECT string_agg(left(crm.check_access(c.who, a.account_id, 'read')::text, 1), '' ORDER BY n) = 'fftt' FROM (VALUES (1, 'lukas.brandt', 'J.P. Morgan SE'), (2, 'ingrid.solberg', 'J.P. Morgan SE'), (3, 'mei.lin.zhou', 'J.P. Morgan SE'), (4, 'priya.nair', 'J.P. Morgan Securities plc')) AS c (n, who, account) JOIN crm.account a ON a.name = c.account)
--check NOT EXISTS (SELECT FROM crm.sharing_drift())
COMMIT;
