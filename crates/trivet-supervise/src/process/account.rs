//! Users and groups, by name or number.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;

/// What a process changes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups, the main one included.
    pub groups: Vec<u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("no user `{0}` on this system")]
    NoUser(String),
    #[error("no group `{0}` on this system")]
    NoGroup(String),
    #[error("cannot look up `{name}`")]
    Lookup { name: String, source: io::Error },
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
}

/// The account of `-u` and `-g`; `None` where nothing is to change.
pub fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Option<Account>, AccountError> {
    let gid = group.map(group_id).transpose()?;
    let Some(user) = user else {
        let Some(gid) = gid else { return Ok(None) };
        let uid = rustix::process::geteuid().as_raw();
        return Ok(Some(Account { name: uid.to_string(), uid, gid, groups: vec![gid] }));
    };
    let entry = match (user_entry(user)?, user.parse::<u32>()) {
        (Some(entry), _) => entry,
        // Containers use numbers that no file lists.
        (None, Ok(uid)) => Entry { name: user.to_owned(), uid, gid: gid.unwrap_or(uid) },
        (None, Err(_)) => return Err(AccountError::NoUser(user.to_owned())),
    };
    let gid = gid.unwrap_or(entry.gid);
    let groups = groups_of(&entry.name, gid);
    Ok(Some(Account { name: entry.name, uid: entry.uid, gid, groups }))
}

/// The edge's own account: `trivet` where the system has one, else `nobody`.
pub fn of_edge() -> Account {
    for name in ["trivet", "nobody"] {
        if let Ok(Some(Entry { name, uid, gid })) = user_entry(name) {
            return Account { name, uid, gid, groups: vec![gid] };
        }
    }
    Account { name: "65534".to_owned(), uid: 65534, gid: 65534, groups: vec![65534] }
}

fn user_entry(user: &str) -> Result<Option<Entry>, AccountError> {
    let failed = |source| AccountError::Lookup { name: user.to_owned(), source };
    let Ok(name) = CString::new(user) else { return Ok(None) };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found: *mut libc::passwd = std::ptr::null_mut();
        // SAFETY: all pointers are to live values of the stated sizes.
        let error = unsafe {
            match user.parse::<u32>() {
                Ok(uid) => libc::getpwuid_r(
                    uid,
                    entry.as_mut_ptr(),
                    buffer.as_mut_ptr(),
                    buffer.len(),
                    &raw mut found,
                ),
                Err(_) => libc::getpwnam_r(
                    name.as_ptr(),
                    entry.as_mut_ptr(),
                    buffer.as_mut_ptr(),
                    buffer.len(),
                    &raw mut found,
                ),
            }
        };
        match error {
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 2, 0),
            _ if !found.is_null() => {
                // SAFETY: `found` points to `entry`, which is filled, its name in `buffer`, which lives.
                let (name, uid, gid) = unsafe {
                    (
                        CStr::from_ptr((*found).pw_name).to_string_lossy().into_owned(),
                        (*found).pw_uid,
                        (*found).pw_gid,
                    )
                };
                return Ok(Some(Entry { name, uid, gid }));
            }
            // The many ways in which systems say that there is none.
            0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            code => return Err(failed(io::Error::from_raw_os_error(code))),
        }
    }
}

fn group_id(group: &str) -> Result<u32, AccountError> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let none = || AccountError::NoGroup(group.to_owned());
    let name = CString::new(group).map_err(|_| none())?;
    let mut buffer = vec![0; 64 * 1024];
    let mut entry = MaybeUninit::<libc::group>::uninit();
    let mut found: *mut libc::group = std::ptr::null_mut();
    // SAFETY: all pointers are to live values of the stated sizes; `found` points to `entry` when it is filled.
    unsafe {
        libc::getgrnam_r(
            name.as_ptr(),
            entry.as_mut_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        );
        if found.is_null() { Err(none()) } else { Ok((*found).gr_gid) }
    }
}

fn groups_of(name: &str, gid: u32) -> Vec<u32> {
    let Ok(name) = CString::new(name) else { return vec![gid] };
    let mut groups = vec![0; 256];
    let mut count = groups.len() as libc::c_int;
    // SAFETY: `groups` has room for `count` numbers; more are cut off by the call.
    let got = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
    if got < 0 {
        return vec![gid];
    }
    groups.truncate(count.max(0) as usize);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_by_number() {
        let root = resolve(Some("root"), None).unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(resolve(Some("0"), None).unwrap().unwrap().name, "root");
        let unlisted = resolve(Some("54321"), Some("root")).unwrap().unwrap();
        assert_eq!((unlisted.uid, unlisted.gid), (54321, 0));
        assert!(resolve(None, None).unwrap().is_none());
        assert!(matches!(resolve(Some("no-such-user"), None), Err(AccountError::NoUser(_))));
        assert!(matches!(resolve(None, Some("no-such-group")), Err(AccountError::NoGroup(_))));
    }
}
