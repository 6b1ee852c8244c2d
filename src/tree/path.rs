//! Path arithmetic: `/id/id/id/`, root first, the node itself last. Pure: no server needed.

/// Longest path kept, in bytes: a btree entry holds 2,704, and the org stands before it.
pub const MAX_BYTES: usize = 2600;

/// The path of a root.
pub fn of_root(id: &str) -> String {
    child("/", id)
}

/// The path of `id` below the node with path `parent` (`"/"`: below none).
pub fn child(parent: &str, id: &str) -> String {
    let mut path = String::with_capacity(parent.len() + id.len() + 1);
    path.push_str(parent);
    path.push_str(id);
    path.push('/');
    path
}

/// Is it a path: a slash, then ids that are not empty, each closed by a slash?
pub fn is_valid(path: &str) -> bool {
    has_ends(path) && path[1..path.len() - 1].split('/').all(|id| !id.is_empty())
}

/// Can a path hold it?
pub fn is_id(id: &str) -> bool {
    !id.is_empty() && !id.contains('/')
}

/// Does it begin and end as a path does? What has no path at all in it does not, and it costs nothing.
pub fn has_ends(path: &str) -> bool {
    path.len() >= 3 && path.starts_with('/') && path.ends_with('/')
}

/// The ids on a path, root first. Empty for what is no path.
pub fn ids(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|id| !id.is_empty())
}

/// Levels below the root: 0 for a root, -1 for what is no path.
pub fn depth(path: &str) -> i32 {
    ids(path).count() as i32 - 1
}

/// The parent's path, None for a root.
pub fn parent(path: &str) -> Option<&str> {
    let end = path.strip_suffix('/')?.rfind('/')?;
    (end > 0).then(|| &path[..=end])
}

/// The root's id.
pub fn root(path: &str) -> Option<&str> {
    ids(path).next()
}

/// Is `path` the node `ancestor` or below it?
pub fn is_within(path: &str, ancestor: &str) -> bool {
    is_valid(ancestor) && path.starts_with(ancestor)
}

/// The path of the lowest common ancestor, None where the two share no root.
pub fn lca<'a>(a: &'a str, b: &str) -> Option<&'a str> {
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    // A slash is one byte and part of no other character, so cutting behind one is safe.
    let end = a.as_bytes()[..same].iter().rposition(|b| *b == b'/')?;
    (end > 0).then(|| &a[..=end])
}

/// The end of a subtree's range: `path >= p AND path < subtree_end(p)` holds exactly for the
/// node and what is below it, under COLLATE "C". `'0'` is the character after `'/'`.
pub fn subtree_end(path: &str) -> Option<String> {
    is_valid(path).then(|| format!("{}0", &path[..path.len() - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> impl Strategy<Value = String> {
        // Ids around the slash in byte order, multi-byte ones, and prefixes of each other.
        "[a-c.0/!é]{1,4}".prop_map(|s| s.replace('/', "~"))
    }

    fn chain() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(id(), 1..6)
    }

    fn path_of(ids: &[String]) -> String {
        ids.iter().fold("/".to_owned(), |p, id| child(&p, id))
    }

    #[test]
    fn refuses_what_is_no_path() {
        for bad in ["", "/", "//", "a", "/a", "a/", "/a//b/", "/a//"] {
            assert!(!is_valid(bad), "{bad:?}");
            assert_eq!(subtree_end(bad), None, "{bad:?}");
        }
        assert_eq!(depth(""), -1);
        assert_eq!(parent(""), None);
        assert_eq!(root("/"), None);
    }

    proptest! {
        #[test]
        fn a_path_gives_back_its_ids(ids_in in chain()) {
            let path = path_of(&ids_in);
            prop_assert!(is_valid(&path));
            prop_assert_eq!(ids(&path).collect::<Vec<_>>(), ids_in.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(depth(&path), ids_in.len() as i32 - 1);
            prop_assert_eq!(root(&path), Some(ids_in[0].as_str()));
            let above = (ids_in.len() > 1).then(|| path_of(&ids_in[..ids_in.len() - 1]));
            prop_assert_eq!(parent(&path), above.as_deref());
        }

        #[test]
        fn the_range_is_the_subtree(a in chain(), b in chain()) {
            let (pa, pb) = (path_of(&a), path_of(&b));
            let below = b.len() >= a.len() && b[..a.len()] == a[..];
            let end = subtree_end(&pa).unwrap();
            prop_assert_eq!(pb.as_bytes() >= pa.as_bytes() && pb.as_bytes() < end.as_bytes(), below);
            prop_assert_eq!(is_within(&pb, &pa), below);
        }

        #[test]
        fn lca_is_the_longest_shared_beginning(a in chain(), b in chain()) {
            let shared = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
            let expected = (shared > 0).then(|| path_of(&a[..shared]));
            let (pa, pb) = (path_of(&a), path_of(&b));
            prop_assert_eq!(lca(&pa, &pb), expected.as_deref());
            prop_assert_eq!(lca(&pb, &pa), expected.as_deref());
        }
    }
}
