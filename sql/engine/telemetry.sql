-- Counters of the walls, in shared memory.

CREATE FUNCTION crm_tree._stat_walls(
        OUT scope text, OUT database bigint, OUT org text, OUT unbound_refusals bigint, OUT bind_denials bigint,
        OUT wall_denials bigint, OUT guard_refusals bigint, OUT guard_logged bigint, OUT service_door_openings bigint,
        OUT cycle_trips bigint, OUT since timestamptz) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', '_stat_walls_wrapper';
COMMENT ON FUNCTION crm_tree._stat_walls() IS 'The counters of the whole cluster; no row where nothing is counted.';
REVOKE ALL ON FUNCTION crm_tree._stat_walls() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crm_tree._stat_walls() TO pg_monitor;

CREATE VIEW crm_tree.stat_walls AS
    SELECT s.scope, d.datname::text AS database, s.org, s.unbound_refusals, s.bind_denials, s.wall_denials, s.guard_refusals,
           s.guard_logged, s.service_door_openings, s.cycle_trips, s.since, NULL::text AS note
      FROM crm_tree._stat_walls() s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.database::oid
    UNION ALL
    SELECT 'none', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
           'nothing is counted: crm_tree is not in shared_preload_libraries'
     WHERE NOT EXISTS (SELECT FROM crm_tree._stat_walls());
REVOKE ALL ON crm_tree.stat_walls FROM PUBLIC;
GRANT SELECT ON crm_tree.stat_walls TO pg_monitor;
COMMENT ON VIEW crm_tree.stat_walls IS 'What the walls of the cluster refused since the counters were reset: the sums (all), the busiest orgs (org), and the orgs that have no place of their own (other). What was refused with no org bound is in the sums alone. For pg_monitor.';

CREATE FUNCTION crm_tree.reset_stat_walls() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'reset_stat_walls_wrapper';
COMMENT ON FUNCTION crm_tree.reset_stat_walls() IS 'Sets the counters of the cluster to nought. For superusers, and roles granted EXECUTE.';
REVOKE ALL ON FUNCTION crm_tree.reset_stat_walls() FROM PUBLIC;
