-- Counters: a refusal counts although its transaction rolls back.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE stat_app NOLOGIN;
CREATE ROLE stat_watch NOLOGIN IN ROLE pg_monitor;
CREATE SCHEMA stat;
GRANT USAGE ON SCHEMA stat TO stat_app;
CREATE TABLE stat.node (org int, id int, parent int, PRIMARY KEY (org, id));
SELECT crm_tree.attach_tree('stat.node', 'id', 'parent', 'org'), crm_tree.protect('stat.node', 'org');
CREATE TABLE stat.plain (org int PRIMARY KEY);
SELECT crm_tree.protect('stat.plain', 'org');
GRANT SELECT, INSERT, UPDATE ON stat.node, stat.plain TO stat_app;
SELECT crm_tree.grant_org('stat_app', o) FROM generate_series(7, 8) o;
SELECT crm_tree.reset_stat_walls();
SET crm_tree.guard = enforce;
SET ROLE stat_app;
SELECT FROM stat.node;
BEGIN; SELECT crm_tree.bind_org(9); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(7); SELECT crm_tree.bind_org(8); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(7); INSERT INTO stat.plain VALUES (8); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(8); INSERT INTO stat.node VALUES (8, 1, 2), (8, 2, 1); ROLLBACK;
BEGIN; SELECT crm_tree.bind_org(8); INSERT INTO stat.node VALUES (8, 1, 2), (8, 2, 1); ROLLBACK;
SELECT FROM crm_tree.stat_walls;
SELECT crm_tree.reset_stat_walls();
RESET ROLE;
SELECT FROM stat.node;
SET crm_tree.guard = log;
SELECT FROM stat.node;
BEGIN; SELECT crm_tree.open_service_door('counted'); ROLLBACK;
SET ROLE stat_watch;
SELECT scope, database, org, unbound_refusals AS unbound, bind_denials AS bind, wall_denials AS wall, guard_refusals AS guard,
       guard_logged AS logged, service_door_openings AS door, cycle_trips AS cycles, note
  FROM crm_tree.stat_walls ORDER BY scope, org;
SELECT count(*) FROM crm_tree.stat_walls WHERE since > now() - interval '1 minute';
RESET ROLE;
SELECT crm_tree.reset_stat_walls();
SELECT scope, org, unbound_refusals, cycle_trips FROM crm_tree.stat_walls;
RESET crm_tree.guard;
SELECT crm_tree.revoke_org('stat_app', o) FROM generate_series(7, 8) o;
DROP SCHEMA stat CASCADE;
DROP ROLE stat_app, stat_watch;
