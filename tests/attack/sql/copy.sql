-- COPY both ways, and the server's files.
-- Attacker: mallory, the application's role (rights on the tables, one org); oscar, the owner.
-- To gain: every row of a table in one statement, or rows written past WITH CHECK.
\set SHOW_CONTEXT never
\set super :USER
\set acme '''aaaaaaaa-0000-4000-8000-00000000000a''::uuid'
\c - mallory_the_app_user
-- SHOULD FAIL: unbound
COPY app.contact TO stdout;
COPY app.deal_late TO stdout;
COPY (SELECT * FROM app.account) TO stdout;
-- SHOULD GAIN NOTHING
BEGIN;
SELECT crm_tree.bind_org(:acme);
COPY app.contact TO stdout;
COPY app.contact (secret) TO stdout;
COPY (SELECT secret FROM app.account ORDER BY id) TO stdout;
COPY (UPDATE app.contact SET secret = 'x' RETURNING secret) TO stdout;
ROLLBACK;
-- SHOULD FAIL: in, bound or not, also into a partition
COPY app.contact FROM stdin;
\.
BEGIN;
SELECT crm_tree.bind_org(:acme);
COPY app.contact FROM stdin;
\.
ROLLBACK;
BEGIN;
SELECT crm_tree.bind_org(:acme);
COPY app.deal_late FROM stdin;
\.
ROLLBACK;
-- SHOULD FAIL: the owner
\c - oscar_the_owner
COPY app.contact TO stdout;
BEGIN;
SELECT crm_tree.bind_org(:acme);
COPY app.contact FROM stdin;
\.
ROLLBACK;
SET row_security = off;
COPY app.contact TO stdout;
\c - :super
SELECT referee.globex();
