//! The triggers that keep paths right.
//!
//! `lock` (BEFORE STATEMENT) takes the org's lock before any row of the statement is locked. `place`
//! (BEFORE ROW) gives the row the path its parent has at that moment, and remembers what the end of
//! the statement must settle. `settle` (AFTER ROW) does that at the statement's first event, when all
//! its rows are there: judged on the final state, so a swap is legal and a cycle is not. AFTER ROW
//! triggers reach every partition, one attached tomorrow included; statement triggers do not.

use super::history::{self, Change};
use super::locks::{self, Work};
use super::moves::{self, Touched};
use super::path;
use super::shape::{Shape, Sql};
use super::{by_links, deferred, faults, judge};
use crate::error::Refusal;
use crate::pg::frames::Place;
use crate::pg::spi::{self, Arg, Seen};
use crate::pg::subxact::{End, Restored};
use crate::pg::trigger::{Call, Event, Outcome, Row, Value, When};
use crate::pg::{relation, role, session, settings, upsert, xact};
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::rc::Rc;

/// What the end of a statement has to settle in one org of one tree.
///
/// An entry may outlive the row it is about (another trigger skipped the row, a savepoint rolled
/// back): it is checked against the row before it is used, so too many entries cost time only.
#[derive(Clone, Default)]
struct Pending {
    moved: HashMap<String, Vec<String>>,
    /// Rows inserted into an org whose paths are left as they are.
    inserted: Vec<String>,
    /// Rows stand without a path, waiting for a parent that comes later in the statement.
    unset: bool,
    /// Some rows could not be given one; each is judged at its own event.
    stuck: bool,
}

impl Pending {
    fn merge(&mut self, other: Pending) {
        for (id, carried) in other.moved {
            self.moved.entry(id).or_default().extend(carried);
        }
        self.inserted.extend(other.inserted);
        self.unset |= other.unset;
        self.stuck |= other.stuck;
    }
}

/// A node that is deleted: its id, and its path where it had one.
type Leaving = (String, Option<String>);

#[derive(Default)]
struct State {
    /// What was settled inside a savepoint that rolls back is pending again: an outer statement's may
    /// be among it.
    pending: Restored<HashMap<(Oid, String), Pending>>,
    /// Rewrites begun, and rows inserted while one was under way. A user's trigger that one fires may
    /// move nodes too, or put some below a row that has its old path still.
    rewrites: u64,
    /// Nodes that triggers moved while paths were rewritten, with what they carried: the rewrite may have
    /// given rows below them the old place anew.
    meanwhile: HashMap<(Oid, String), HashMap<String, Vec<String>>>,
    /// The batches that were rewritten since the outermost statement began to, one after the other: what
    /// rows carry while it goes on is told by all of them.
    rewritten: HashMap<(Oid, String), Vec<Rc<Vec<moves::Rewrite>>>>,
    /// Rows moved or deleted: who goes by what he knew before asks whether there were more.
    changes: u64,
    /// What the version of relations was when `parents` began: TRUNCATE makes another.
    parents_version: u64,
    /// Paths of parents looked up by this statement. True while this transaction holds the org's lock and
    /// moves and deletes nothing itself.
    parents: HashMap<(Oid, String, String), (String, i32)>,
    /// Has this statement looked a parent up? The first is not kept: most statements have one row.
    looked_up: bool,
    /// Lookups in a row that found no parent: a load with children first, which looks up in vain.
    misses: u32,
    /// Trees that this transaction has deleted from: a node inserted there may be one that was, with
    /// rows below it that know its old place.
    deleted: HashSet<Oid>,
    /// Nodes that a statement deletes, with their paths, whose children are to be adopted.
    leaving: Restored<HashMap<(Oid, String), Vec<Leaving>>>,
    rewriting: Option<Rewriting>,
    loading: Option<Loading>,
}

/// Our own rewrite that is under way.
#[derive(Clone)]
struct Rewriting {
    root: Oid,
    /// The trigger depth at which it fires `place`. A user's trigger that it fires runs its statements
    /// deeper, and gets no exemption.
    depth: i32,
    aim: Aim,
}

/// Where a rewrite puts a row, for `place` to hold it to that: a trigger of the user's may have had its
/// own idea.
#[derive(Clone)]
enum Aim {
    /// The statement computes it.
    Computed,
    /// The rows whose paths begin so.
    Below(Rc<Vec<moves::Rewrite>>),
    /// The rows with these ids.
    Rows(Rc<HashMap<String, String>>),
}

impl Aim {
    /// Where a row goes that has this id and path; None where that is not known.
    fn at(&self, id: &str, path: Option<&str>) -> Option<String> {
        match self {
            Aim::Computed => None,
            // Their beginnings have one length, and do not contain each other.
            Aim::Below(batch) => {
                let path = path?;
                let to =
                    |r: &moves::Rewrite| Some(format!("{}{}", r.to, path.strip_prefix(r.from.as_str())?));
                match &batch[..] {
                    [one] => to(one),
                    many => {
                        let begins = path.get(..many.first()?.from.len())?;
                        let found = many.binary_search_by(|r| r.from.as_str().cmp(begins)).ok()?;
                        to(&many[found])
                    }
                }
            }
            Aim::Rows(places) => places.get(id).cloned(),
        }
    }
}

/// An INSERT of ours whose rows have their paths.
#[derive(Clone, Copy)]
struct Loading {
    root: Oid,
    /// On what it stands. What it sets off stands elsewhere, be it a trigger or what is computed while it
    /// is planned.
    on: Place,
    /// Changes until it began: behind another one its paths are not to be relied on.
    changes: u64,
}

/// Parents remembered at most: about a megabyte.
const MAX_PARENTS: usize = 8192;
/// After this many vain lookups in a row, rows are left to the end of the statement.
const MAX_MISSES: u32 = 64;
/// Deleted nodes remembered at most, to be adopted from together.
const MAX_LEAVING: usize = 50_000;
/// Rows without a path that are placed from memory; more are placed by the set.
const FEW: i32 = 1000;
/// Times that paths are computed again because triggers moved nodes meanwhile.
const MAX_ROUNDS: usize = 10;
/// Links walked at most to say why a row cannot be placed.
const MAX_WALK: usize = 100_000;

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::default());
}

fn state<R>(work: impl FnOnce(&mut State) -> R) -> R {
    STATE.with(|s| work(&mut s.borrow_mut()))
}

pub fn init() {
    xact::at_top_end(|| state(|s| *s = State::default()));
    xact::at_sub_start(|level| {
        state(|s| {
            s.pending.started(level);
            s.leaving.started(level);
        });
    });
    xact::at_sub_end(|end, level| {
        state(|s| {
            s.pending.ended(end, level);
            s.leaving.ended(end, level);
            if end == End::RolledBack {
                // A parent inserted in the savepoint is gone.
                s.parents.clear();
            }
        });
    });
}

/// BEFORE STATEMENT.
pub fn lock<'a>(call: &Call<'a>) -> Outcome<'a> {
    call.expect(When::BeforeStatement, &[Event::Insert, Event::Update, Event::Delete]);
    let shape = Shape::of(call);
    // A delete alone in the org: otherwise a node could go and come back elsewhere between an inserter's
    // look at its path and the foreign key's at its row.
    let is_insert = call.event() == Event::Insert;
    let work = match is_insert && !upsert::may_change(call.relation(), |column| shape.is_locked(column)) {
        true => Work::Place,
        false => Work::Move,
    };
    // Our own rewrite may go from org to org unbound: that of repair_tree(). Who does it holds what it takes:
    // rows of a statement's own are placed by one that shares the lock with others.
    let is_own = rewrites_here().is_some_and(|rewriting| rewriting.root == shape.root);
    if !is_own {
        shape.refuse_beyond_wall(None);
        locks::take(shape.root, session::org().as_deref(), work);
    }
    state(|s| {
        s.looked_up = false;
        s.misses = 0;
        s.parents.clear();
    });
    Outcome::Done
}

/// BEFORE ROW of INSERT, UPDATE and DELETE.
pub fn place<'a>(call: &Call<'a>) -> Outcome<'a> {
    call.expect(When::BeforeRow, &[Event::Insert, Event::Update, Event::Delete]);
    let shape = Shape::of(call);
    Outcome::Keep(match call.event() {
        Event::Insert => {
            let row = call.new_row();
            refuse_bad_ownership(&shape, &row);
            if has_its_path(&shape) {
                if shape.history.is_some()
                    && let Some(key) = Key::of(&shape, &row)
                {
                    history::note(&shape, &key.org, &key.id, Change::Inserted);
                }
                row
            } else {
                place_insert(&shape, row)
            }
        }
        Event::Delete => {
            leave(&shape, &call.old());
            call.old()
        }
        _ => place_update(&shape, call.old(), call.new_row()),
    })
}

/// A statement that names a partition has no trigger of its own on the tree, and one may delete rows of
/// an org that is not the bound one.
fn leave(shape: &Shape, row: &Row<'_>) {
    if let Some(org) = row.text(shape.org) {
        locks::take(shape.root, Some(&org), Work::Move);
    }
    state(|s| {
        s.changes += 1;
        s.deleted.insert(shape.root);
        s.parents.clear();
        if shape.adopts
            && let Some(key) = Key::of(shape, row)
        {
            let leaving = s.leaving.get_mut().entry((shape.root, key.org)).or_default();
            if leaving.len() < MAX_LEAVING {
                leaving.push((key.id, row.text(shape.path)));
            }
        }
    });
}

/// Is the row one of a load, which gave it its path?
fn has_its_path(shape: &Shape) -> bool {
    state(|s| {
        let is_loaded = |loading: Loading| {
            loading.root == shape.root && loading.on.bears_statement() && loading.changes == s.changes
        };
        s.loading.is_some_and(is_loaded) && !s.deleted.contains(&shape.root)
    })
}

struct Key {
    org: String,
    id: String,
    parent: Option<String>,
}

impl Key {
    /// None where org or id is null: the table's own NOT NULL refuses the row.
    fn of(shape: &Shape, row: &Row<'_>) -> Option<Key> {
        Some(Key { org: row.text(shape.org)?, id: row.text(shape.id)?, parent: row.text(shape.parent) })
    }
}

fn place_insert<'a>(shape: &Shape, row: Row<'a>) -> Row<'a> {
    let Some(key) = Key::of(shape, &row) else {
        return row;
    };
    shape.refuse_beyond_wall(Some(&key.org));
    refuse_bad_id(shape, &key.id);
    locks::take(shape.root, Some(&key.org), Work::Place);
    history::note(shape, &key.org, &key.id, Change::Inserted);
    state(|s| s.rewrites += u64::from(s.rewriting.is_some()));
    let tree_org = (shape.root, key.org.clone());
    if deferred::is_flagged(&tree_org) {
        state(|s| s.pending.get_mut().entry(tree_org).or_default().inserted.push(key.id));
        return with_place(shape, row, None);
    }
    let comes_again = state(|s| s.deleted.contains(&shape.root));
    if comes_again {
        expect_old_children(shape, &key);
    }
    // A row that changes its parent and its partition, or that was deleted before, arrives as an insert;
    // what is remembered of it is settled by the insert's event, which only a row without a path has.
    let moved_here =
        state(|s| s.pending.get().get(&tree_org).is_some_and(|pending| pending.moved.contains_key(&key.id)));
    // Nor have its children noticed that it was away, and with second parents that is a move too.
    let place = if moved_here || comes_again && shape.linked { None } else { place_below(shape, &key, &row) };
    if place.is_none() {
        state(|s| s.pending.get_mut().entry(tree_org).or_default().unset = true);
    }
    with_place(shape, row, place.as_ref())
}

/// Rows that stand below a node which was deleted and comes back are moved with it.
fn expect_old_children(shape: &Shape, key: &Key) {
    let rows = role::as_table_owner(shape.owner, || {
        spi::read::<1>(&shape.sql().places_above_children(), vec![Arg::Text(&key.org), Arg::Text(&key.id)])
    });
    let old: Vec<String> = rows.into_iter().filter_map(|[place]| place).collect();
    state(|s| {
        s.parents.clear();
        if !old.is_empty() {
            let pending = s.pending.get_mut().entry((shape.root, key.org.clone())).or_default();
            pending.moved.entry(key.id.clone()).or_default().extend(old);
        }
    });
}

fn place_update<'a>(shape: &Shape, old: Row<'a>, new: Row<'a>) -> Row<'a> {
    let rewriting = rewrites_here().filter(|rewriting| rewriting.root == shape.root);
    // A WHEN of the trigger's would be parsed by each statement, and would pass by what a trigger of the user's
    // has put back.
    let place = [shape.org, shape.id, shape.parent, shape.path, shape.depth];
    if rewriting.is_none() && place.into_iter().all(|column| new.agrees(&old, column)) {
        return new;
    }
    // One that runs before may have moved the row, too.
    let rewriting = rewriting.filter(|_| new.agrees(&old, shape.parent));
    let Some(was) = Key::of(shape, &old) else {
        return new;
    };
    if !new.agrees(&old, shape.org) || !new.agrees(&old, shape.id) {
        refuse_key_change(shape, &was, Key::of(shape, &new).as_ref())
    }
    if let Some(rewriting) = rewriting {
        return place_rewritten(shape, &rewriting.aim, &was.id, &old, new);
    }
    let parent = new.text(shape.parent);
    if parent == was.parent {
        return new.with([
            (shape.path, Value::Text(old.text(shape.path).as_deref())),
            (shape.depth, Value::Int(old.int(shape.depth))),
        ]);
    }
    locks::take(shape.root, Some(&was.org), Work::Move);
    history::note(shape, &was.org, &was.id, Change::Other);
    let key = Key { parent, ..was };
    // Nobody looks for it in paths, as what is above others is looked for.
    if key.parent.is_some() {
        refuse_bad_id(shape, &key.id);
    }
    let deferred = deferred::defers(&(shape.root, key.org.clone()));
    let place = if deferred { None } else { place_below(shape, &key, &new) };
    let carried = old.text(shape.path).into_iter().chain(place.as_ref().map(|p| p.0.clone()));
    state(|s| {
        s.changes += 1;
        s.parents.clear();
        let pending = s.pending.get_mut().entry((shape.root, key.org.clone())).or_default();
        pending.moved.entry(key.id.clone()).or_default().extend(carried);
    });
    with_place(shape, new, place.as_ref())
}

/// A row that a rewrite of ours writes: a trigger of the user's may have put another path there, or the old
/// one back.
fn place_rewritten<'a>(shape: &Shape, aim: &Aim, id: &str, old: &Row<'a>, new: Row<'a>) -> Row<'a> {
    let (before, after) = (old.text(shape.path), new.text(shape.path));
    let depth = new.int(shape.depth);
    let stands = |path: &str| after.as_deref() == Some(path) && depth == Some(path::depth(path));
    let new = match aim.at(id, before.as_deref()) {
        Some(path) if stands(&path) => new,
        Some(path) => with_place(shape, new, Some(&(path.clone(), path::depth(&path)))),
        None => {
            let is_place = |path: &String| path::ids(path).next_back() == Some(id) && stands(path);
            if !after.as_ref().is_some_and(is_place) || after == before && depth == old.int(shape.depth) {
                refuse_other_path(shape, id)
            }
            new
        }
    };
    // What computes places goes by the limits itself; repair_tree() puts a node where it hangs, however deep.
    if !matches!(aim, Aim::Computed) {
        refuse_beyond_limits(shape, &new);
    }
    new
}

fn refuse_other_path(shape: &Shape, id: &str) -> ! {
    let refusal = Refusal::new(
        PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
        format!("a trigger puts another path on node {}, or keeps the old one", faults::shown(id)),
    )
    .hint("Let it leave the columns of path and depth alone: what a user's statement writes there is overwritten.");
    refuse(shape, refusal)
}

/// Of an edge that is new; those that change are judged with the others of their node.
fn refuse_bad_ownership(shape: &Shape, row: &Row<'_>) {
    if let Some(share) = shape.ownership.and_then(|column| row.text(column))
        && !row.is_null(shape.parent)
    {
        judge::expect_ownership(shape.root, || row.text(shape.id).unwrap_or_default(), &share);
    }
}

/// Where the row stands by what its parent's row says now. None: the parent has no path yet, is not
/// there yet, or puts the row beyond the limits; the end of the statement decides.
fn place_below(shape: &Shape, key: &Key, row: &Row<'_>) -> Option<(String, i32)> {
    let place = match &key.parent {
        None => (path::of_root(&key.id), 0),
        Some(parent) => {
            // From a time without triggers.
            refuse_bad_id(shape, parent);
            let (above, depth) = place_of_parent(shape, &key.org, parent, row)?;
            (path::child(&above, &key.id), depth + 1)
        }
    };
    (path::is_id(&key.id) && place.1 <= shape.max_depth && place.0.len() <= path::MAX_BYTES).then_some(place)
}

fn place_of_parent(shape: &Shape, org: &str, id: &str, row: &Row<'_>) -> Option<(String, i32)> {
    let (is_first, misses) = state(|s| {
        if s.parents_version != relation::version() {
            s.parents_version = relation::version();
            s.parents.clear();
        }
        (!std::mem::replace(&mut s.looked_up, true), s.misses)
    });
    let key = (!is_first).then(|| (shape.root, org.to_owned(), id.to_owned()));
    let known = key.as_ref().and_then(|key| state(|s| s.parents.get(key).cloned()));
    if known.is_some() || misses >= MAX_MISSES {
        return known;
    }
    let found = shape.parent_by_index(row).unwrap_or_else(|_| {
        let rows = role::as_table_owner(shape.owner, || {
            spi::read::<2>(&shape.sql().place_of(), vec![Arg::Text(org), Arg::Text(id)])
        });
        rows.into_iter().next().map(|[path, depth]| (path, depth.and_then(|depth| depth.parse().ok())))
    });
    let found = found.and_then(|(path, depth)| Some((path.filter(|p| path::has_ends(p))?, depth?)));
    state(|s| match &found {
        Some(place) => {
            s.misses = 0;
            if s.parents.len() >= MAX_PARENTS {
                s.parents.clear();
            }
            s.parents.extend(key.map(|key| (key, place.clone())));
        }
        None => s.misses += 1,
    });
    found
}

fn with_place<'a>(shape: &Shape, row: Row<'a>, place: Option<&(String, i32)>) -> Row<'a> {
    row.with([
        (shape.path, Value::Text(place.map(|p| p.0.as_str()))),
        (shape.depth, Value::Int(place.map(|p| p.1))),
    ])
}

/// AFTER ROW of INSERT, and of an UPDATE that changed the parent. For an insert it asks itself whether the
/// path was left unset: each statement would parse a WHEN anew, for three times what a call costs.
pub fn settle<'a>(call: &Call<'a>) -> Outcome<'a> {
    call.expect(When::AfterRow, &[Event::Insert, Event::Update]);
    // All but the first event of a statement, which may have millions.
    let (is_settled, has_deleted) = state(|s| (s.pending.get().is_empty(), !s.deleted.is_empty()));
    if is_settled && !has_deleted {
        return Outcome::Done;
    }
    let is_insert = call.event() == Event::Insert;
    let shape = Shape::of(call);
    if is_insert && !call.new_row().is_null(shape.path) {
        return Outcome::Done;
    }
    if !is_settled {
        settle_statement(call, &shape);
    }
    if is_insert && has_deleted && shape.linked {
        return judge::settle(call);
    }
    Outcome::Done
}

fn settle_statement(call: &Call<'_>, shape: &Shape) {
    let Some(key) = Key::of(shape, &call.new_row()) else {
        return;
    };
    let tree_org = (shape.root, key.org.clone());
    let pending = state(|s| {
        s.parents.clear();
        s.pending.get_mut().remove(&tree_org)
    });
    let Some(mut pending) = pending else {
        return;
    };
    if deferred::is_flagged(&tree_org) {
        settle_by_links(shape, &key, &mut pending);
        if pending.stuck {
            state(|s| s.pending.get_mut().entry(tree_org).or_default().merge(pending));
        }
        return;
    }
    // A trigger of the user's own may have repaired the org since.
    pending.unset |= !std::mem::take(&mut pending.inserted).is_empty();
    // What moves, by an action of on_delete above all, may give rows a place that had none.
    pending.unset |= pending.stuck && !pending.moved.is_empty();
    if !pending.moved.is_empty() || pending.unset {
        role::as_table_owner(shape.owner, || {
            settle_moved(shape, &key.org, std::mem::take(&mut pending.moved));
            if std::mem::take(&mut pending.unset) {
                pending.stuck = !fill_unset(shape, &key.org);
            }
        });
    }
    if pending.stuck {
        role::as_table_owner(shape.owner, || refuse_unplaced(shape, &key));
        state(|s| s.pending.get_mut().entry(tree_org).or_default().merge(pending));
    }
}

/// Judges what moved and came, and leaves the paths as they are.
fn settle_by_links(shape: &Shape, key: &Key, pending: &mut Pending) {
    // Rows that came before the move which flagged the org are not known by name.
    pending.stuck |= std::mem::take(&mut pending.unset);
    let mut inserted = std::mem::take(&mut pending.inserted);
    if pending.stuck {
        inserted.push(key.id.clone());
    }
    let moved: Vec<String> = std::mem::take(&mut pending.moved).into_keys().collect();
    role::as_table_owner(shape.owner, || by_links::judge(&shape.sql(), &key.org, &inserted, &moved))
        .unwrap_or_else(|refusal| refuse(shape, *refusal));
}

fn settle_moved(shape: &Shape, org: &str, mut moved: HashMap<String, Vec<String>>) {
    if moved.is_empty() {
        return;
    }
    let tree_org = (shape.root, org.to_owned());
    let is_inside = state(|s| {
        let is_inside = s.rewriting.as_ref().is_some_and(|rewriting| rewriting.root == shape.root);
        if !is_inside {
            s.rewritten.remove(&tree_org);
        }
        is_inside
    });
    until_quiet((&shape.schema, &shape.name), || {
        let begun = state(|s| s.rewritten.get(&tree_org).map_or(0, Vec::len));
        let (touched, others) = load(&shape.sql(), org, moved.keys().cloned().collect(), &moved);
        let finals = moves::final_paths(&touched, &others)
            .unwrap_or_else(|trouble| refuse(shape, faults::of_trouble(&trouble)));
        let batches: Vec<_> = moves::rewrites(&touched, &finals).into_iter().map(Rc::new).collect();
        rewrite(shape.root, || {
            for batch in &batches {
                run_batch(shape, org, batch);
            }
            set_own_rows(shape, org, moves::own_rows(&touched, &finals));
        });
        // What a trigger moved meanwhile took rows along whose turn had not come, and ours gave others the
        // place that its node had left.
        for (id, carried) in state(|s| s.meanwhile.remove(&tree_org)).unwrap_or_default() {
            moved.entry(id).or_default().extend(carried);
        }
        let all = state(|s| {
            s.rewritten.get(&tree_org).and_then(|all| all.get(begun..)).unwrap_or_default().to_vec()
        });
        if all.len() > batches.len() {
            moves::follow(&mut moved, all.iter().map(|batch| &batch[..]));
        }
    });
    state(|s| {
        if is_inside {
            s.meanwhile.entry(tree_org).or_default().extend(moved);
        } else {
            s.rewritten.remove(&tree_org);
        }
    });
}

/// Settles what triggers moved while rows were given paths that had none: some may have got the place that
/// was left.
fn settle_meanwhile(shape: &Shape, org: &str) {
    let moved = state(|s| s.meanwhile.remove(&(shape.root, org.to_owned())));
    settle_moved(shape, org, moved.unwrap_or_default());
}

/// Rewrites paths until no trigger of the user's own that fired has moved what was placed, or built on
/// a row whose path was still the old one.
pub fn until_quiet((schema, table): (&str, &str), mut rewrite: impl FnMut()) {
    for _ in 0..MAX_ROUNDS {
        let round = state(|s| {
            s.rewrites += 1;
            s.rewrites
        });
        rewrite();
        if state(|s| s.rewrites) == round {
            return;
        }
    }
    Refusal::new(
        PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
        format!("triggers of tree {schema}.{table} move or insert nodes whenever its paths are written"),
    )
    .hint("Let triggers that move nodes look at the parent: it does not change where a path is rewritten.")
    .table(schema, table)
    .raise()
}

/// The nodes asked for as touched, with whatever unplaced node is above them, and the stored paths
/// of the parents that are neither.
pub fn load(
    sql: &Sql,
    org: &str,
    mut ask: Vec<String>,
    moved: &HashMap<String, Vec<String>>,
) -> (HashMap<String, Touched>, HashMap<String, String>) {
    let sql = sql.nodes();
    let (mut touched, mut others) = (HashMap::new(), HashMap::new());
    let mut asked: HashSet<String> = ask.iter().cloned().collect();
    while !ask.is_empty() {
        let mut next = Vec::new();
        for [id, parent, stored] in spi::read::<3>(&sql, vec![Arg::Text(org), Arg::Texts(ask)]) {
            // Triggers were off once: below an id that no path can hold there is no place, and what is no path says nothing.
            let Some(id) = id.filter(|id| path::is_id(id)) else { continue };
            let stored = stored.filter(|stored| path::is_valid(stored));
            match (moved.get(&id), stored) {
                (None, Some(stored)) => {
                    others.insert(id, stored);
                }
                (carried, stored) => {
                    next.extend(parent.iter().filter(|p| asked.insert((*p).clone())).cloned());
                    let carried = carried.cloned().unwrap_or_default();
                    touched.insert(id, Touched { parent, stored, carried });
                }
            }
        }
        ask = next;
    }
    (touched, others)
}

fn set_own_rows(shape: &Shape, org: &str, mut rows: Vec<(String, String)>) {
    if rows.is_empty() {
        return;
    }
    // In one order: old rows without a path may be others' to write too.
    rows.sort_unstable();
    let depths = rows.iter().map(|(_, p)| path::depth(p)).collect();
    let aim = Aim::Rows(Rc::new(rows.iter().cloned().collect()));
    let (ids, paths) = rows.into_iter().unzip();
    aiming(aim, || {
        spi::write::<0>(
            &shape.sql().set_many(),
            vec![Arg::Text(org), Arg::Texts(ids), Arg::Texts(paths), Arg::Ints(depths)],
        )
    });
}

/// Places the rows that were left without a path, those of broken trees from before included where
/// they can be. Answers whether none is left.
fn fill_unset(shape: &Shape, org: &str) -> bool {
    let sql = shape.sql();
    let unset = |limit: i32| {
        spi::read::<1>(&sql.unset(), vec![Arg::Text(org), Arg::Int(limit)])
            .into_iter()
            .filter_map(|[id]| id)
            .collect::<Vec<_>>()
    };
    let ids = unset(FEW + 1);
    if ids.len() > FEW as usize {
        // Rows just loaded are in no statistics, so the kind of plan is not left to the planner: a look
        // into an index for each row is never far from the best, whatever it takes the table for.
        let by_index: &[(&CStr, &CStr)] = &[
            (c"enable_hashjoin", c"off"),
            (c"enable_mergejoin", c"off"),
            (c"enable_material", c"off"),
            (c"enable_memoize", c"off"),
            (c"enable_seqscan", c"off"),
            (c"enable_bitmapscan", c"off"),
            (c"work_mem", c"256MB"),
        ];
        settings::with(by_index, || {
            rewrite(shape.root, || {
                spi::write::<0>(&sql.fill_unset(), vec![Arg::Text(org)]);
            });
        });
        settle_meanwhile(shape, org);
        return unset(1).is_empty();
    }
    let (touched, others) = load(&shape.sql(), org, ids.clone(), &HashMap::new());
    let mut finals = HashMap::new();
    for id in ids.iter().filter(|id| touched.contains_key(*id)) {
        let _unplaceable_is_judged_at_its_own_event = moves::place(id, &touched, &others, &mut finals);
    }
    finals.retain(|_, p| path::depth(p) <= shape.max_depth && p.len() <= path::MAX_BYTES);
    let all = finals.len() == touched.len() && ids.iter().all(|id| touched.contains_key(id));
    rewrite(shape.root, || set_own_rows(shape, org, moves::own_rows(&touched, &finals)));
    settle_meanwhile(shape, org);
    all
}

fn run_batch(shape: &Shape, org: &str, batch: &Rc<Vec<moves::Rewrite>>) {
    state(|s| s.rewritten.entry((shape.root, org.to_owned())).or_default().push(batch.clone()));
    aiming(Aim::Below(batch.clone()), || write_batch(shape, org, batch));
}

fn write_batch(shape: &Shape, org: &str, batch: &[moves::Rewrite]) {
    let end = |p: &str| path::subtree_end(p).expect("a kept path is a path");
    let keep = |p: &str| p.chars().count() as i32 + 1;
    let gain = |r: &moves::Rewrite| path::depth(&r.to) - path::depth(&r.from);
    if let [one] = batch {
        spi::write::<0>(
            &shape.sql().rewrite_one(),
            vec![
                Arg::Text(org),
                Arg::Text(&one.from),
                Arg::Text(&end(&one.from)),
                Arg::Text(&one.to),
                Arg::Int(keep(&one.from)),
                Arg::Int(gain(one)),
            ],
        );
    } else {
        // An index range each: for a table without statistics the planner takes an org for a few rows, and would
        // compare each of them with each range.
        let by_range: &[(&CStr, &CStr)] = &[
            (c"enable_seqscan", c"off"),
            (c"enable_bitmapscan", c"off"),
            (c"enable_material", c"off"),
            (c"cpu_operator_cost", c"1"),
        ];
        settings::with(by_range, || {
            spi::write::<0>(
                &shape.sql().rewrite_many(),
                vec![
                    Arg::Text(org),
                    Arg::Texts(batch.iter().map(|r| r.from.clone()).collect()),
                    Arg::Texts(batch.iter().map(|r| end(&r.from)).collect()),
                    Arg::Texts(batch.iter().map(|r| r.to.clone()).collect()),
                    Arg::Ints(batch.iter().map(|r| keep(&r.from)).collect()),
                    Arg::Ints(batch.iter().map(gain).collect()),
                ],
            )
        });
    }
}

/// Puts the mark back when the rewrite is done or unwinds. A savepoint that rolls back inside it
/// (in a user's trigger that it fired) must leave the mark alone.
struct Unmark(Option<Rewriting>);

impl Drop for Unmark {
    fn drop(&mut self) {
        state(|s| s.rewriting = self.0.take());
    }
}

/// Our own rewrite, if it is at its outermost statement.
fn rewrites_here() -> Option<Rewriting> {
    state(|s| s.rewriting.clone()).filter(|rewriting| rewriting.depth == xact::trigger_depth())
}

/// Runs our own UPDATE of paths on the tree: `place` lets its rows pass, checked against the limits
/// only.
pub fn rewrite<R>(root: Oid, work: impl FnOnce() -> R) -> R {
    state(|s| s.parents.clear());
    let mark = Rewriting { root, depth: xact::trigger_depth() + 1, aim: Aim::Computed };
    let _unmark = Unmark(state(|s| s.rewriting.replace(mark)));
    work()
}

/// Runs a statement of a rewrite that puts rows there.
fn aiming<R>(aim: Aim, work: impl FnOnce() -> R) -> R {
    let before = state(|s| s.rewriting.clone());
    state(|s| s.rewriting.as_mut().map(|rewriting| rewriting.aim = aim));
    let _unmark = Unmark(before);
    work()
}

struct UnmarkLoading(Option<Loading>);

impl Drop for UnmarkLoading {
    fn drop(&mut self) {
        state(|s| s.loading = self.0);
    }
}

/// Runs an INSERT into the tree whose rows have their paths: `place` lets them pass unlooked at.
/// No trigger of the caller's may change them.
pub fn with_paths_given<R>(root: Oid, work: impl FnOnce() -> R) -> R {
    let mark = Loading { root, on: Place::here(), changes: state(|s| s.changes) };
    let _unmark = UnmarkLoading(state(|s| s.loading.replace(mark)));
    work()
}

/// Are we inside our own rewrite of paths, at its outermost statement? For `touch_updated_at`.
pub fn is_rewriting() -> bool {
    rewrites_here().is_some()
}

/// AFTER ROW of DELETE in a tree that adopts: children go to the nearest ancestor that is left.
/// Fires before the foreign key's own trigger, which sorts behind it by name.
///
/// The statement's first event does it for all that the statement deleted: one after the other, a path
/// would be written below a node that is gone and whose turn has not come, and the foreign key looks at
/// once at a row that this transaction has inserted.
pub fn adopt<'a>(call: &Call<'a>) -> Outcome<'a> {
    call.expect(When::AfterRow, &[Event::Delete]);
    let shape = Shape::of(call);
    let old = call.old();
    let Some(key) = Key::of(&shape, &old) else {
        return Outcome::Done;
    };
    let tree_org = (shape.root, key.org.clone());
    let mut paths: HashMap<String, Option<String>> =
        state(|s| s.leaving.get_mut().remove(&tree_org)).unwrap_or_default().into_iter().collect();
    paths.entry(key.id).or_insert_with(|| old.text(shape.path));
    let sql = shape.sql();
    let org = key.org.as_str();
    role::as_table_owner(shape.owner, || {
        let parents: Vec<String> = spi::read::<1>(
            &sql.with_children(),
            vec![Arg::Text(org), Arg::Texts(paths.keys().cloned().collect())],
        )
        .into_iter()
        .filter_map(|[id]| id)
        .collect();
        if parents.is_empty() {
            return;
        }
        // A row may only have changed its partition, or a trigger may have kept it.
        let still_there: HashSet<String> =
            spi::read::<3>(&sql.nodes(), vec![Arg::Text(org), Arg::Texts(parents.clone())])
                .into_iter()
                .filter_map(|[id, ..]| id)
                .collect();
        let gone: Vec<String> = parents.into_iter().filter(|id| !still_there.contains(id)).collect();
        if gone.is_empty() {
            return;
        }
        locks::take(shape.root, Some(org), Work::Move);
        let links = deferred::is_flagged(&tree_org)
            .then(|| by_links::upwards(&sql, org, &gone, Seen::BeforeStatement));
        let survivor = |id: &String| {
            let above: Vec<String> = match &links {
                Some(links) => by_links::above(id, links),
                None => paths[id]
                    .as_deref()
                    .filter(|p| path::is_valid(p))
                    .map(|p| path::ids(p).filter(|at| at != id).map(str::to_owned).collect())
                    .unwrap_or_default(),
            };
            spi::read::<1>(&sql.nearest_survivor(), vec![Arg::Text(org), Arg::Texts(above)])
                .into_iter()
                .next()
                .and_then(|[id]| id)
                .unwrap_or_default()
        };
        let survivors = gone.iter().map(survivor).collect();
        spi::write::<0>(
            &sql.reparent_children(),
            vec![Arg::Text(org), Arg::Texts(gone), Arg::Texts(survivors)],
        );
    });
    Outcome::Done
}

fn refuse(shape: &Shape, refusal: Refusal) -> ! {
    faults::raise(refusal, &shape.schema, &shape.name)
}

fn refuse_bad_id(shape: &Shape, id: &str) {
    if !path::is_id(id) {
        refuse(shape, faults::bad_id(id))
    }
}

fn refuse_key_change(shape: &Shape, was: &Key, is: Option<&Key>) -> ! {
    let to = is.map_or("null".to_owned(), |k| format!("{:?} of org {:?}", k.id, k.org));
    let refusal = Refusal::new(
        PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
        format!("node {:?} of org {:?} cannot become {to}: a node keeps its id and org", was.id, was.org),
    )
    .hint("Insert the node under its new key, move the children to it, then delete the old one.")
    .constraint("crm_tree_key_fixed");
    refuse(shape, refusal)
}

fn refuse_beyond_limits(shape: &Shape, row: &Row<'_>) {
    let depth = row.int(shape.depth).unwrap_or(0);
    if depth > shape.max_depth {
        refuse(shape, faults::too_deep(&row.text(shape.id).unwrap_or_default(), depth, shape.max_depth))
    }
    if let Some(path) = row.text(shape.path)
        && path.len() > path::MAX_BYTES
    {
        refuse(shape, faults::too_long(&row.text(shape.id).unwrap_or_default(), path.len()))
    }
}

/// A row that could not be placed, and whose links lead to a place, lies beyond the limits.
fn refuse_beyond(shape: &Shape, walked: &[String], above: &str) -> ! {
    let depth = path::depth(above) + walked.len() as i32;
    let refusal = faults::beyond_limits(walked, above, shape.max_depth)
        .unwrap_or_else(|| faults::too_deep(&walked[0], depth, shape.max_depth));
    refuse(shape, refusal)
}

/// Says why the row of this event, if it has no path, can have none.
fn refuse_unplaced(shape: &Shape, key: &Key) {
    let sql = shape.sql();
    let mut walked: Vec<String> = Vec::new();
    let mut seen: HashSet<String> = HashSet::new();
    let mut at = key.id.clone();
    while walked.len() < MAX_WALK {
        refuse_bad_id(shape, &at);
        let row = spi::read::<3>(&sql.nodes(), vec![Arg::Text(&key.org), Arg::Texts(vec![at.clone()])])
            .into_iter()
            .next();
        let Some([_, parent, stored]) = row else {
            match walked.last() {
                Some(child) => refuse(shape, faults::no_parent(child, &at)),
                None => return, // The row was deleted again.
            }
        };
        if let Some(stored) = stored {
            if walked.is_empty() {
                return; // This one has its path.
            }
            refuse_beyond(shape, &walked, &stored)
        }
        seen.insert(at.clone());
        walked.push(at);
        match parent {
            None => refuse_beyond(shape, &walked, "/"),
            Some(parent) => {
                if seen.contains(&parent) {
                    let from = walked.iter().position(|id| *id == parent).unwrap_or(0);
                    refuse(shape, faults::cycle(&walked[from..]))
                }
                at = parent;
            }
        }
    }
    refuse(shape, faults::too_deep(&key.id, MAX_WALK as i32, shape.max_depth))
}
