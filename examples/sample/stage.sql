-- Builds the sample in temporary tables: reads the CSV files, derives ids, and invents the figures.
-- Included by load.sql. Every "random" choice is a hash of a name, so each run gives the same data;
-- only the dates move: the last month is the current one.

-- A number in [0, 1) out of any text.
CREATE FUNCTION pg_temp.u(seed text) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT ('x' || substr(md5($1), 1, 8))::bit(32)::bigint / 4294967296.0::double precision $$;

-- A stable uuid out of a name, in the manner of version 5 (with md5).
CREATE FUNCTION pg_temp.sample_id(org text, kind text, code text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT overlay(overlay(md5('crm_tree sample/' || $1 || '/' || $2 || '/' || $3)
                                 placing '5' from 13) placing '8' from 17)::uuid $$;

-- ---------------------------------------------------------------------------------------- accounts
CREATE TEMP TABLE csv_account (code text, parent_code text, name text, jurisdiction text);
CREATE TEMP TABLE st_account (
    line int GENERATED ALWAYS AS IDENTITY, org text, code text, parent_code text, name text, jurisdiction text,
    account_id uuid, parent_account_id uuid, owner_role text, owner_user_id text,
    PRIMARY KEY (org, code));

\copy csv_account FROM 'jpmorgan_chase.csv' WITH (FORMAT csv, HEADER true)
INSERT INTO st_account (org, code, parent_code, name, jurisdiction) SELECT 'A', * FROM csv_account;
TRUNCATE csv_account;
\copy csv_account FROM 'volkswagen.csv' WITH (FORMAT csv, HEADER true)
INSERT INTO st_account (org, code, parent_code, name, jurisdiction) SELECT 'B', * FROM csv_account;

-- Org C: 120 groups; every later node hangs under an earlier one, small numbers preferred (u * u), which
-- gives a few nodes with hundreds of children, many with none, and eight to ten levels.
INSERT INTO st_account (org, code, parent_code, name, jurisdiction)
WITH RECURSIVE words AS (
    SELECT ARRAY['Alder','Amber','Anvil','Arbor','Argent','Aspen','Auric','Basalt','Beacon','Birch','Bolt','Breck','Brook',
                 'Cairn','Calder','Cedar','Cinder','Cliff','Cobble','Copper','Corvid','Crest','Delta','Dorn','Dune','Ember',
                 'Falcon','Fen','Ferro','Flint','Forge','Garnet','Glen','Granite','Gull','Harrow','Hazel','Heron','Holm',
                 'Indigo','Iron','Jasper','Juniper','Kestrel','Lark','Linden','Loam','Lumen','Maple','Marl','Mesa','Mica',
                 'Moor','Noble','North','Oak','Onyx','Opal','Orchard','Osprey','Pike','Pine','Quarry','Quill','Raven','Reed',
                 'Ridge','Rowan','Sable','Sage','Shale','Slate','Sorrel','Spruce','Stone','Tarn','Teal','Thorn','Timber',
                 'Umber','Vale','Vetch','Ward','Weld','Willow','Wren','Yarrow','Zephyr'] AS first,
           ARRAY['mark','field','worth','haven','gate','bridge','wood','water','ford','land','stead','crest'] AS second,
           ARRAY['Foods','Energy','Logistics','Retail','Insurance','Materials','Health','Mobility','Telecom','Chemicals',
                 'Software','Media','Steel','Marine','Rail','Paper','Optics','Seeds','Water','Capital'] AS trade,
           ARRAY['Holdings','Services','Trading','Finance','Components','Systems','Distribution','Real Estate','Research',
                 'Ventures','Treasury','Leasing','Procurement','Digital'] AS unit,
           ARRAY['Delaware','California','Germany','France','Netherlands','England and Wales','Ireland','Spain','Italy','Poland',
                 'Sweden','Japan','Singapore','India','Australia','Brazil','Mexico','Canada'] AS country,
           ARRAY['Inc.','LLC','GmbH','S.A.S.','B.V.','Limited','DAC','S.L.','S.r.l.','Sp. z o.o.',
                 'AB','K.K.','Pte. Ltd.','Pvt. Ltd.','Pty Ltd','Ltda.','S.A. de C.V.','Ltd.'] AS suffix
), node AS (
    SELECT n,
           CASE WHEN n > 120
                THEN 1 + floor((n - 1) * pg_temp.u('C/parent/' || n) * pg_temp.u('C/parent/' || n))::int END AS parent,
           1 + floor(18 * pg_temp.u('C/country/' || n))::int AS c,
           1 + floor(14 * pg_temp.u('C/unit/' || n))::int AS t
      FROM generate_series(1, 10000) AS n
), placed AS (
    SELECT n, parent, c, t,
           first[1 + n % 88] || second[1 + n / 11] || ' ' || trade[1 + floor(20 * pg_temp.u('C/trade/' || n))::int] AS brand
      FROM node, words WHERE parent IS NULL
  UNION ALL
    SELECT node.n, node.parent, node.c, node.t, placed.brand
      FROM placed JOIN node ON node.parent = placed.n
)
SELECT 'C', 'n' || n, 'n' || parent,
       CASE WHEN parent IS NULL THEN brand || ' Group'
            ELSE brand || ' ' || unit[t] || ' ' || n || ' ' || suffix[c] END,
       country[c]
  FROM placed, words
 ORDER BY n;

-- ------------------------------------------------------------------------------ sales organisation
CREATE TEMP TABLE st_team (
    org text, role_code text, parent_role_code text, role_name text, display_name text, email text);
\copy st_team FROM 'sales_team.csv' WITH (FORMAT csv, HEADER true)
ALTER TABLE st_team ADD role_id uuid, ADD parent_role_id uuid, ADD user_id text;
UPDATE st_team SET role_id = pg_temp.sample_id(org, 'role', role_code),
                   parent_role_id = pg_temp.sample_id(org, 'role', parent_role_code),
                   user_id = split_part(email, '@', 1);        -- the application's own name for a user

-- An account belongs to a seller of its region.
UPDATE st_account
   SET account_id = pg_temp.sample_id(org, 'account', code),
       parent_account_id = pg_temp.sample_id(org, 'account', parent_code),
       owner_role = CASE
           WHEN jurisdiction IN ('England and Wales', 'Scotland', 'Ireland') THEN 'ae-uk'
           WHEN jurisdiction IN ('Brazil', 'Mexico', 'Canada', 'Chile', 'Colombia', 'Bahamas') THEN 'ae-latam'
           WHEN jurisdiction IN ('China', 'Hong Kong', 'Taiwan', 'Japan', 'Singapore', 'India', 'Malaysia',
                                 'Australia', 'Thailand') THEN 'ae-asia'
           WHEN jurisdiction IN ('California', 'Utah', 'Texas') THEN 'ae-us-west'
           WHEN jurisdiction IN ('Delaware', 'United States', 'New Jersey', 'Tennessee', 'Connecticut',
                                 'Pennsylvania', 'Vermont') THEN 'ae-us-east'
           ELSE 'ae-eu' END;
UPDATE st_account a
   SET owner_user_id = (SELECT t.user_id FROM st_team t
                         WHERE t.org = a.org AND t.role_code = a.owner_role
                         ORDER BY pg_temp.u(a.code || t.email) LIMIT 1);

-- ------------------------------------------------------------------------------------- the figures
-- 24 months; not every account pays (holding companies often do not); some start late, some leave.
CREATE TEMP TABLE st_arr AS
WITH account AS MATERIALIZED (
    SELECT org, code, account_id,
           pg_temp.u(org || '/pays/' || code) < CASE org WHEN 'C' THEN 0.5 ELSE 0.75 END AS pays,
           pg_temp.u(org || '/size/' || code) AS size,
           -0.006 + 0.024 * pg_temp.u(org || '/growth/' || code) AS growth,
           floor(20 * pg_temp.u(org || '/start/' || code) * pg_temp.u(org || '/start/' || code))::int AS starts,
           CASE WHEN pg_temp.u(org || '/leaves/' || code) < 0.06
                THEN 14 + floor(8 * pg_temp.u(org || '/when/' || code))::int ELSE 99 END AS leaves
      FROM st_account
)
SELECT org, account_id,
       (date_trunc('month', current_date) - make_interval(months => 23 - m))::date AS snapshot_date,
       round((CASE org WHEN 'C' THEN 300 ELSE 1000 END
              * (8 + 40 * size + 900 * size * size * size * size)
              * (1 + growth * (m - starts)))::numeric, -2) AS arr_usd
  FROM account, generate_series(0, 23) AS m
 WHERE pays AND m >= starts AND m < leaves;

-- ------------------------------------------------------------------------------------ the pipeline
CREATE TEMP TABLE st_stage (stage text, position int, outcome text, stale_after interval);
INSERT INTO st_stage VALUES
    ('prospect',    1, 'open', '30 days'),
    ('qualified',   2, 'open', '30 days'),
    ('proposal',    3, 'open', '45 days'),
    ('negotiation', 4, 'open', '60 days'),
    ('won',         5, 'won',  NULL),
    ('lost',        6, 'lost', NULL);

CREATE TEMP TABLE st_opportunity AS
WITH history (i, stages, rest) AS (VALUES        -- rest: closed long ago, moving now, or forgotten
    ( 0, 'prospect>qualified>proposal>negotiation>won',                    'closed'),
    ( 1, 'prospect>qualified>proposal>lost',                               'closed'),
    ( 2, 'prospect>proposal>negotiation>won',                              'closed'),     -- skips a stage
    ( 3, 'prospect>lost',                                                  'closed'),
    ( 4, 'prospect>qualified>negotiation>proposal>negotiation>won',        'closed'),     -- skips, goes back
    ( 5, 'prospect>qualified>proposal>negotiation>lost',                   'closed'),
    ( 6, 'prospect',                                                       'moving'),
    ( 7, 'prospect>qualified',                                             'moving'),
    ( 8, 'prospect>qualified>proposal',                                    'moving'),
    ( 9, 'prospect>qualified>proposal>qualified>proposal>negotiation',     'moving'),     -- goes back
    (10, 'prospect>qualified>proposal>negotiation',                        'forgotten'),
    (11, 'prospect>qualified',                                             'forgotten')
), deal AS (
    SELECT a.org, a.code || '#' || n AS code, a.code AS account_code, a.account_id, a.owner_user_id,
           floor(12 * pg_temp.u(a.org || '/history/' || a.code || n))::int AS i,
           (ARRAY['Platform renewal', 'Analytics seats', 'Risk module', 'Data residency add-on',
                  'Premium support', 'Archive migration'])[1 + floor(6 * pg_temp.u(a.org || '/what/' || a.code || n))::int] AS name,
           100 * round((60 + 2000 * power(pg_temp.u(a.org || '/worth/' || a.code || n), 3))::numeric) AS worth
      FROM st_account a, generate_series(1, CASE a.org WHEN 'C' THEN 1 ELSE 2 END) AS n
     WHERE pg_temp.u(a.org || '/deal/' || a.code || n) < CASE a.org WHEN 'C' THEN 0.15 ELSE 0.35 END
)
SELECT deal.*, pg_temp.sample_id(org, 'opportunity', deal.code) AS opportunity_id,
       string_to_array(stages, '>') AS stages,
       CASE rest WHEN 'closed' THEN 5 + 360 * pg_temp.u(org || '/age/' || deal.code)
                 WHEN 'moving' THEN 2 + 22 * pg_temp.u(org || '/age/' || deal.code)
                 ELSE 75 + 85 * pg_temp.u(org || '/age/' || deal.code) END AS age_days
  FROM deal JOIN history USING (i);

-- The events, counted back from the last one.
CREATE TEMP TABLE st_event AS
WITH step AS (
    SELECT o.*, s.stage, s.k,
           CASE WHEN s.k < cardinality(o.stages)
                THEN 4 + 40 * pg_temp.u(o.org || '/gap/' || o.code || s.k) ELSE age_days END AS days
      FROM st_opportunity o, unnest(o.stages) WITH ORDINALITY AS s (stage, k)
), dated AS (
    SELECT step.*,
           date_trunc('hour', current_date
               - make_interval(secs => 86400 * sum(days) OVER (PARTITION BY org, code ORDER BY k DESC)))
               AS changed_at,
           100 * round((worth / 100 * (1 + 0.04 * (k - 1) * (pg_temp.u(org || '/turn/' || code) - 0.4)))::numeric) AS amount
      FROM step
)
SELECT org, pg_temp.sample_id(org, 'event', code || '/' || k) AS event_id, opportunity_id, changed_at,
       stage AS to_stage, amount AS amount_usd,
       round(CASE stage WHEN 'prospect' THEN 0.10 WHEN 'qualified' THEN 0.30 WHEN 'proposal' THEN 0.50
                        WHEN 'negotiation' THEN 0.80 WHEN 'won' THEN 1.00 ELSE 0 END
             * amount
             -- every seller has a habit: some promise too much, some too little
             * CASE WHEN stage IN ('won', 'lost') THEN 1
                    ELSE 0.8 + 0.5 * pg_temp.u('habit/' || owner_user_id) END::numeric, 2) AS forecast_usd,
       CASE stage WHEN 'prospect' THEN 'pipeline' WHEN 'qualified' THEN 'pipeline' WHEN 'proposal' THEN 'best_case'
                  WHEN 'negotiation' THEN 'commit' WHEN 'won' THEN 'closed' ELSE 'omitted' END AS forecast_category,
       (changed_at + interval '75 days')::date AS expected_close,
       owner_user_id AS changed_by
  FROM dated;

-- One deal with a history to read: a stage skipped, then a step back.
INSERT INTO st_opportunity (org, code, account_code, account_id, owner_user_id, name, opportunity_id)
SELECT org, 'example', code, account_id, owner_user_id, 'Group-wide risk platform', pg_temp.sample_id('A', 'opportunity', 'example')
  FROM st_account WHERE org = 'A' AND code = 'jpm-se';
INSERT INTO st_event
SELECT 'A', pg_temp.sample_id('A', 'event', 'example/' || k), o.opportunity_id,
       current_date - make_interval(days => ago, hours => 8), stage, amount, forecast, category,
       current_date + 45, o.owner_user_id
  FROM st_opportunity o,
       (VALUES (1, 'prospect',    140, 180000, 18000,  'pipeline'),
               (2, 'qualified',   118, 240000, 72000,  'pipeline'),
               (3, 'negotiation',  90, 310000, 250000, 'commit'),
               (4, 'proposal',     61, 265000, 130000, 'best_case'),
               (5, 'negotiation',  20, 280000, 240000, 'commit')) AS e (k, stage, ago, amount, forecast, category)
 WHERE o.org = 'A' AND o.code = 'example';
