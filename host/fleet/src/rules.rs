//! Rules for what clients may write into a workspace: its fields, its host directory, its secrets.
//!
//! Pure checks, one function per rule. The answers' texts are fixed: an error's `Display` is what a
//! client that edits gets; creating answers one text for all of them ([`INVALID_FIELDS`]).

use std::{
    fmt,
    ops::RangeInclusive,
    path::{Component, Path},
};

use types::{is_env_name, is_reserved_env};

pub use types::{DeliveryMode, InvalidAccess, InvalidMode, WorkspaceAccess};

/// The error text for any invalid field of a new workspace.
pub const INVALID_FIELDS: &str = "invalid workspace fields";

/// Characters with a meaning in YAML or a shell.
const MARKUP: [char; 9] = ['{', '}', '[', ']', '|', '>', '*', '&', '!'];

/// Host directories that no workspace may have, nor anything below them.
pub(crate) const SYSTEM_DIRECTORIES: [&str; 10] =
    ["/etc", "/var", "/proc", "/sys", "/dev", "/boot", "/sbin", "/bin", "/lib", "/usr"];

/// Minutes of idleness that may be asked for.
const IDLE_MINUTES: RangeInclusive<i64> = 5..=10_080;

/// Bytes in the name of a secret at most.
const SECRET_KEY_BYTES: usize = 128;
/// Bytes in a secret at most.
const SECRET_VALUE_BYTES: usize = 64 * 1024;

/// Bytes of a text that an agent reports of itself at most: its task, an example of its errors. Presence goes to
/// other servers in notifications of less than 8,000 bytes, which have both of them.
pub(crate) const REPORTED_BYTES: usize = 1024;

/// A field of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Name of the workspace.
    Name,
    /// Role of the workspace, shown to other agents.
    Role,
    /// The language model.
    Model,
    /// Name of the runtime.
    Runtime,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The field is required.
    #[error("{0} must not be empty")]
    Empty(Field),
    /// The field has a line break.
    #[error("{0} must not contain newline characters")]
    Newline(Field),
    /// The field has a character that is not allowed.
    #[error("{0} contains invalid characters")]
    Character(Field),
    /// The field is too long.
    #[error("{0} must be at most {max} characters", max = .0.max_bytes())]
    TooLong(Field),
    /// There is no such tier.
    #[error("invalid workspace fields")]
    Tier,
    /// A workspace can't hibernate after that time.
    #[error("invalid workspace fields")]
    IdleMinutes,
}

impl Field {
    const fn max_bytes(self) -> usize {
        match self {
            Self::Name => 255,
            Self::Role => 1000,
            Self::Model | Self::Runtime => 100,
        }
    }

    /// Whether the field is free text, which ends up in prompts and generated files.
    const fn is_prose(self) -> bool {
        matches!(self, Self::Name | Self::Role)
    }

    fn check(self, text: &str) -> Result<(), FieldError> {
        if text.contains(['\r', '\n']) {
            Err(FieldError::Newline(self))
        } else if text.contains('\0') || self.is_prose() && text.contains(MARKUP) {
            Err(FieldError::Character(self))
        } else if text.len() > self.max_bytes() {
            Err(FieldError::TooLong(self))
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Role => "role",
            Self::Model => "model",
            Self::Runtime => "runtime",
        })
    }
}

/// A name: one line, not empty, no markup.
///
/// # Errors
/// Says what is wrong with the field.
pub fn name(text: &str) -> Result<(), FieldError> {
    if text.is_empty() {
        return Err(FieldError::Empty(Field::Name));
    }
    Field::Name.check(text)
}

/// A role: one line, no markup.
///
/// # Errors
/// Says what is wrong with the field.
pub fn role(text: &str) -> Result<(), FieldError> {
    Field::Role.check(text)
}

/// A model: one line.
///
/// # Errors
/// Says what is wrong with the field.
pub fn model(text: &str) -> Result<(), FieldError> {
    Field::Model.check(text)
}

/// A runtime: one line.
///
/// # Errors
/// Says what is wrong with the field.
pub fn runtime(text: &str) -> Result<(), FieldError> {
    Field::Runtime.check(text)
}

/// The tier of a new workspace: 1 to 4, or none for 0, which leaves the choice to the platform.
///
/// # Errors
/// If there is no such tier.
pub(crate) fn new_tier(tier: i64) -> Result<Option<i32>, FieldError> {
    if tier == 0 { Ok(None) } else { self::tier(tier).map(Some) }
}

/// The tier of a workspace: 1 to 4.
///
/// # Errors
/// If there is no such tier.
pub fn tier(tier: i64) -> Result<i32, FieldError> {
    i32::try_from(tier).ok().filter(|tier| (1..=4).contains(tier)).ok_or(FieldError::Tier)
}

/// After how many idle minutes a workspace hibernates: 5 to 10,080 (a week), or never for 0 and none.
///
/// # Errors
/// If it is another number.
pub fn hibernation_idle_minutes(minutes: Option<i64>) -> Result<Option<i32>, FieldError> {
    match minutes {
        None | Some(0) => Ok(None),
        Some(minutes) if IDLE_MINUTES.contains(&minutes) => {
            i32::try_from(minutes).map(Some).map_err(|_| FieldError::IdleMinutes)
        }
        Some(_) => Err(FieldError::IdleMinutes),
    }
}

/// A host directory that a workspace may not have. Clients of the workspaces API know one text for all
/// of these; [`reason`](Self::reason) says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid workspace directory")]
pub enum InvalidDirectory {
    /// The path isn't absolute.
    Relative,
    /// The path has a character with a meaning for backends.
    Character,
    /// The path has `..`.
    Parent,
    /// The path is part of the system.
    System(&'static str),
    /// The server keeps its own files there, below it, or above it.
    Own,
}

impl InvalidDirectory {
    /// What is wrong with the path, as the end of a sentence that begins with the field's name.
    #[must_use]
    pub fn reason(self) -> String {
        match self {
            Self::Relative => "must be an absolute path".to_owned(),
            Self::Character => "must not contain ':' or control characters".to_owned(),
            Self::Parent => "must not contain '..'".to_owned(),
            Self::System(directory) => format!("must not be a system path ({directory})"),
            Self::Own => "must not have files of the server itself, or be among them".to_owned(),
        }
    }
}

/// A directory of the host to mount into a workspace: absolute, without `..`, and no part of the
/// system. Links are not looked at: [`HostDirectories`](crate::HostDirectories) does.
///
/// # Errors
/// If a workspace may not have it.
pub fn workspace_dir(dir: &str) -> Result<(), InvalidDirectory> {
    if !dir.starts_with('/') {
        return Err(InvalidDirectory::Relative);
    }
    // Backends write mounts as `host:container:mode`, where a colon would begin another path.
    if dir.contains(|c: char| c == ':' || c.is_control()) {
        return Err(InvalidDirectory::Character);
    }
    // By component, so that doubled and trailing slashes and `.` hide nothing.
    let path = Path::new(dir);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(InvalidDirectory::Parent);
    }
    // The root holds every system directory.
    let system = match path.parent() {
        None => Some("/"),
        Some(_) => SYSTEM_DIRECTORIES.into_iter().find(|system| path.starts_with(system)),
    };
    system.map_or(Ok(()), |system| Err(InvalidDirectory::System(system)))
}

/// What is wrong with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The name is no name of an environment variable.
    #[error("invalid secret key")]
    Key,
    /// Only the platform sets that variable.
    #[error("reserved key")]
    Reserved,
    /// The value is too long, or has a NUL.
    #[error("invalid secret value")]
    Value,
}

/// The name of a secret, which becomes an environment variable.
///
/// # Errors
/// If the text is no name of a variable, or only the platform sets that variable.
pub(crate) fn secret_key(key: &str) -> Result<(), SecretError> {
    if key.len() > SECRET_KEY_BYTES || !is_env_name(key) {
        Err(SecretError::Key)
    } else if is_reserved_env(key) {
        Err(SecretError::Reserved)
    } else {
        Ok(())
    }
}

/// The value of a secret: what fits an environment variable.
///
/// # Errors
/// If it doesn't.
pub(crate) fn secret_value(value: &str) -> Result<(), SecretError> {
    if value.len() > SECRET_VALUE_BYTES || value.contains('\0') { Err(SecretError::Value) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_by_table() {
        type Rule = fn(&str) -> Result<(), FieldError>;
        let rules: [(Rule, Field, usize, bool); 4] = [
            (name, Field::Name, 255, true),
            (role, Field::Role, 1000, true),
            (model, Field::Model, 100, false),
            (runtime, Field::Runtime, 100, false),
        ];
        for (rule, field, max, prose) in rules {
            assert_eq!(rule("Ünïcode (2), a/b:c #1 'x' \"y\" $z"), Ok(()), "{field}");
            assert_eq!(rule(&"x".repeat(max)), Ok(()), "{field}");
            assert_eq!(rule(&"x".repeat(max + 1)), Err(FieldError::TooLong(field)), "{field}");
            // Bytes count, not characters.
            assert_eq!(rule(&"é".repeat(max / 2 + 1)), Err(FieldError::TooLong(field)), "{field}");
            for text in ["a\nb", "a\r", "\n", "{\n"] {
                assert_eq!(rule(text), Err(FieldError::Newline(field)), "{field} {text:?}");
            }
            for markup in "{}[]|>*&!".chars() {
                let expected = if prose { Err(FieldError::Character(field)) } else { Ok(()) };
                assert_eq!(rule(&format!("a{markup}b")), expected, "{field} {markup}");
            }
        }
        assert_eq!(name(""), Err(FieldError::Empty(Field::Name)));
        for rule in [role, model, runtime] {
            assert_eq!(rule(""), Ok(()));
        }
    }

    #[test]
    fn texts_of_field_errors() {
        for (error, text) in [
            (FieldError::Empty(Field::Name), "name must not be empty"),
            (FieldError::Newline(Field::Model), "model must not contain newline characters"),
            (FieldError::Character(Field::Role), "role contains invalid characters"),
            (FieldError::TooLong(Field::Name), "name must be at most 255 characters"),
            (FieldError::TooLong(Field::Role), "role must be at most 1000 characters"),
            (FieldError::TooLong(Field::Model), "model must be at most 100 characters"),
            (FieldError::TooLong(Field::Runtime), "runtime must be at most 100 characters"),
            (FieldError::Tier, INVALID_FIELDS),
            (FieldError::IdleMinutes, INVALID_FIELDS),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn tiers_by_table() {
        assert_eq!(new_tier(0), Ok(None));
        assert_eq!(tier(0), Err(FieldError::Tier));
        for known in 1..=4 {
            assert_eq!(tier(i64::from(known)), Ok(known));
            assert_eq!(new_tier(i64::from(known)), Ok(Some(known)));
        }
        for unknown in [-1, 5, 4_294_967_297, i64::MIN, i64::MAX] {
            assert_eq!(tier(unknown), Err(FieldError::Tier), "{unknown}");
            assert_eq!(new_tier(unknown), Err(FieldError::Tier), "{unknown}");
        }
    }

    #[test]
    fn idle_minutes_by_table() {
        for (minutes, expected) in [
            (None, Ok(None)),
            (Some(0), Ok(None)),
            (Some(5), Ok(Some(5))),
            (Some(10_080), Ok(Some(10_080))),
            (Some(-5), Err(FieldError::IdleMinutes)),
            (Some(4), Err(FieldError::IdleMinutes)),
            (Some(10_081), Err(FieldError::IdleMinutes)),
            (Some(i64::MAX), Err(FieldError::IdleMinutes)),
        ] {
            assert_eq!(hibernation_idle_minutes(minutes), expected, "{minutes:?}");
        }
    }

    #[test]
    fn directories_by_table() {
        for allowed in
            ["/home/me/project", "/srv", "/srv/", "/opt/a b", "/a..b", "/etcetera", "/library", "/home/etc"]
        {
            assert_eq!(workspace_dir(allowed), Ok(()), "{allowed}");
        }
        for system in ["/etc", "/var", "/proc", "/sys", "/dev", "/boot", "/sbin", "/bin", "/lib", "/usr"] {
            for written in ["", "/", "/x", "//x", "/./x", "/."] {
                for before in ["", "/", "/.", "/./.", "//"] {
                    let dir = format!("{before}{system}{written}");
                    assert!(workspace_dir(&dir).is_err(), "{dir}");
                }
            }
        }
        for refused in [
            "",
            " /srv",
            "srv",
            "./srv",
            "~/x",
            "C:\\x",
            "/",
            "//",
            "/.",
            "/..",
            "/a/..",
            "/a/../etc",
            "/a/../b",
            "/srv\0",
            "/srv\n",
            "/srv:/etc",
        ] {
            assert!(workspace_dir(refused).is_err(), "{refused:?}");
        }
        assert_eq!(InvalidDirectory::Parent.to_string(), "invalid workspace directory");
    }

    #[test]
    fn secrets_by_table() {
        for key in ["A", "_", "a1", "OPENAI_API_KEY", "path", "PATH_", &"K".repeat(128)] {
            assert_eq!(secret_key(key), Ok(()), "{key}");
        }
        for key in ["", "1A", "A-B", "A B", "A=B", "É", "A\n", "A\0", &"K".repeat(129)] {
            assert_eq!(secret_key(key), Err(SecretError::Key), "{key:?}");
        }
        for key in
            ["PATH", "WORKSPACE_ID", "PYTHONPATH", "LD_AUDIT", "NODE_OPTIONS", "BASH_ENV", "GIT_CONFIG_COUNT"]
        {
            assert_eq!(secret_key(key), Err(SecretError::Reserved), "{key}");
        }
        assert_eq!(secret_value(&"v".repeat(64 * 1024)), Ok(()));
        assert_eq!(secret_value("two\nlines"), Ok(()));
        assert_eq!(secret_value(&"v".repeat(64 * 1024 + 1)), Err(SecretError::Value));
        assert_eq!(secret_value("a\0b"), Err(SecretError::Value));
        for (error, text) in [
            (SecretError::Key, "invalid secret key"),
            (SecretError::Reserved, "reserved key"),
            (SecretError::Value, "invalid secret value"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
