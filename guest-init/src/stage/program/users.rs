//! Who the program runs as: names of the image's `/etc/passwd` and `/etc/group`, turned into numbers. Pure.
//!
//! Numbers need no entry there. A user without one has group 0 and no supplementary groups, as containers have it.

use crate::sys::Credentials;

/// A user or group cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("no user {0:?}; numbers need no entry")]
    NoUser(String),
    #[error("no group {0:?}; numbers need no entry")]
    NoGroup(String),
}

impl UserError {
    /// The file that lacks it.
    pub(crate) fn file(&self) -> &'static str {
        match self {
            UserError::NoUser(_) => "/etc/passwd",
            UserError::NoGroup(_) => "/etc/group",
        }
    }
}

/// The credentials of `user` (`name`, `uid`, `name:group` or `uid:gid`) with `extra` supplementary groups, by the text
/// of the two files.
///
/// # Errors
/// [`UserError`], which names what is not there.
pub(crate) fn credentials(
    user: &str,
    extra: &[String],
    passwd: &str,
    group: &str,
) -> Result<Credentials, UserError> {
    let (user, own_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let number = user.parse::<u32>().ok();
    let entry = users(passwd).find(|entry| entry.name == user || number == Some(entry.uid));
    let uid =
        entry.as_ref().map(|entry| entry.uid).or(number).ok_or_else(|| UserError::NoUser(user.to_owned()))?;
    let gid = match own_group {
        Some(name) => group_id(name, group)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut all: Vec<u32> = match &entry {
        // A group given outright stands alone.
        Some(entry) if own_group.is_none() => memberships(entry.name, group).collect(),
        Some(_) | None => Vec::new(),
    };
    for name in extra {
        all.push(group_id(name, group)?);
    }
    all.push(gid);
    all.sort_unstable();
    all.dedup();
    Ok(Credentials { uid, gid, groups: all })
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

/// Source: `passwd(5)`. Lines that do not follow it are passed over, as the C library does.
fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { name, uid, gid })
    })
}

/// Source: `group(5)`: name, id and members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let gid = fields.next()?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn group_id(name: &str, group: &str) -> Result<u32, UserError> {
    let entry = groups(group).find(|(known, ..)| *known == name).map(|(_, gid, _)| gid);
    entry.or_else(|| name.parse().ok()).ok_or_else(|| UserError::NoGroup(name.to_owned()))
}

fn memberships<'a>(user: &'a str, group: &'a str) -> impl Iterator<Item = u32> + 'a {
    groups(group)
        .filter(move |(.., members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:5:5\nweb:x:33:34:web:/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nmedia:x:44:other,web\nwebmail:x:45:webmail\n";

    fn ids(user: &str, extra: &[&str]) -> Result<(u32, u32, Vec<u32>), UserError> {
        let extra: Vec<String> = extra.iter().map(|&name| name.to_owned()).collect();
        credentials(user, &extra, PASSWD, GROUP).map(|found| (found.uid, found.gid, found.groups))
    }

    #[test]
    fn a_name_brings_its_group_and_its_memberships() {
        assert_eq!(ids("web", &[]), Ok((33, 34, vec![34, 44])));
    }

    #[test]
    fn a_number_with_an_entry_is_that_user() {
        assert_eq!(ids("33", &[]), Ok((33, 34, vec![34, 44])));
    }

    #[test]
    fn a_number_without_an_entry_needs_none() {
        assert_eq!(
            credentials("1000", &[], "", "").map(|c| (c.uid, c.gid, c.groups)),
            Ok((1000, 0, vec![0]))
        );
        assert_eq!(ids("1000:1001", &[]), Ok((1000, 1001, vec![1001])));
    }

    #[test]
    fn a_group_given_outright_replaces_the_users_own() {
        assert_eq!(ids("web:media", &[]), Ok((33, 44, vec![44])));
    }

    #[test]
    fn supplementary_groups_come_by_name_or_number_and_once() {
        assert_eq!(ids("web", &["media", "7", "34"]), Ok((33, 34, vec![7, 34, 44])));
    }

    #[test]
    fn names_that_are_not_there_are_named() {
        assert_eq!(ids("ghost", &[]), Err(UserError::NoUser("ghost".into())));
        assert_eq!(ids("web:ghosts", &[]), Err(UserError::NoGroup("ghosts".into())));
        assert_eq!(ids("web", &["ghosts"]), Err(UserError::NoGroup("ghosts".into())));
    }
}
