//! Who a command runs as, from `/etc/passwd` and `/etc/group` as text.
//!
//! The agent is static and the image may have no C library at all, so name services other than the two files are out
//! of reach. What is said of no group follows `docker exec -u`: a user's own and those that list them; 0 for a
//! number without an entry.

/// An account, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
    /// The user's name, where the number has an entry.
    pub(super) name: Option<String>,
    home: Option<String>,
}

/// The account does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("no user {0:?} in /etc/passwd; a number needs no entry")]
    NoUser(String),
    #[error("no group {0:?} in /etc/group; a number needs no entry")]
    NoGroup(String),
}

impl Identity {
    /// The home directory; `/` for a number without an entry.
    pub(super) fn home(&self) -> &str {
        self.home.as_deref().unwrap_or("/")
    }
}

/// Resolves `user`, `uid`, `user:group` or `uid:gid`.
pub(super) fn resolve(spec: &str, passwd: &str, group: &str) -> Result<Identity, IdentityError> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let mut identity = find_user(user, passwd).ok_or_else(|| IdentityError::NoUser(user.to_owned()))?;
    match wanted_group {
        Some(name) => {
            identity.gid = find_group(name, group).ok_or_else(|| IdentityError::NoGroup(name.to_owned()))?;
        }
        None => {
            let name = identity.name.as_deref();
            identity.groups = name.map_or_else(Vec::new, |name| groups_of(name, group));
        }
    }
    Ok(identity)
}

/// Source: `passwd(5)`, `name:password:uid:gid:comment:home:shell`. A name wins over a number that looks like it.
fn find_user(wanted: &str, passwd: &str) -> Option<Identity> {
    let entries = || passwd.lines().filter_map(parse_user);
    let number: Option<u32> = wanted.parse().ok();
    let by_name = entries().find(|entry| entry.name.as_deref() == Some(wanted));
    let by_number = || entries().find(|entry| Some(entry.uid) == number);
    let bare = || number.map(|uid| Identity { uid, gid: 0, groups: Vec::new(), name: None, home: None });
    by_name.or_else(by_number).or_else(bare)
}

fn parse_user(line: &str) -> Option<Identity> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).filter(|home| !home.is_empty());
    Some(Identity {
        uid,
        gid,
        groups: Vec::new(),
        name: Some(name.to_owned()),
        home: home.map(str::to_owned),
    })
}

/// Source: `group(5)`, `name:password:gid:member,member`.
fn parse_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

fn find_group(wanted: &str, group: &str) -> Option<u32> {
    let by_name = group.lines().filter_map(parse_group).find(|(name, ..)| *name == wanted);
    by_name.map(|(_, gid, _)| gid).or_else(|| wanted.parse().ok())
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let listed = group.lines().filter_map(parse_group);
    listed
        .filter(|(.., members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# not an entry\nbroken:x:one:1::/:\n\
                          alice:x:1000:100::/home/alice:/bin/sh\n1000:x:7:7::/odd:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:alice,bob\nvideo:x:44:bob,alice\nodd\n";

    fn resolved(spec: &str) -> (u32, u32, Vec<u32>) {
        let identity = resolve(spec, PASSWD, GROUP).unwrap();
        (identity.uid, identity.gid, identity.groups)
    }

    #[test]
    fn a_name_brings_its_group_and_those_that_list_it() {
        assert_eq!(resolved("alice"), (1000, 100, vec![10, 44]));
        assert_eq!(resolve("alice", PASSWD, GROUP).unwrap().home(), "/home/alice");
    }

    #[test]
    fn a_group_asked_for_is_the_only_one() {
        assert_eq!(resolved("alice:wheel"), (1000, 10, vec![]));
        assert_eq!(resolved("alice:5"), (1000, 5, vec![]));
    }

    #[test]
    fn numbers_need_no_entry() {
        assert_eq!(resolved("4242"), (4242, 0, vec![]));
        assert_eq!(resolved("4242:4343"), (4242, 4343, vec![]));
        let bare = resolve("4242", "", "").unwrap();
        assert_eq!((bare.name.as_deref(), bare.home()), (None, "/"));
    }

    #[test]
    fn a_number_with_an_entry_is_that_user_unless_a_name_looks_like_it() {
        assert_eq!(resolve("0", PASSWD, GROUP).unwrap().name.as_deref(), Some("root"));
        assert_eq!(resolved("1000"), (7, 7, vec![]));
    }

    #[test]
    fn who_does_not_exist_is_named() {
        let no_user = |name: &str| Err(IdentityError::NoUser(name.to_owned()));
        assert_eq!(resolve("mallory", PASSWD, GROUP), no_user("mallory"));
        assert_eq!(resolve("broken", PASSWD, GROUP), no_user("broken"));
        assert_eq!(resolve("-1", PASSWD, GROUP), no_user("-1"));
        assert_eq!(resolve("", PASSWD, GROUP), no_user(""));
        assert_eq!(resolve("alice:none", PASSWD, GROUP), Err(IdentityError::NoGroup("none".to_owned())));
    }
}
