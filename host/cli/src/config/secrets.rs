//! Values the file only says the place of: an environment variable or another file.

use super::Environment;
use ambit_policy::Reader;
use ambit_types::Secret;
use std::path::Path;

pub(super) const SECRET: &str = "a secret: `{ env = \"NAME\" }` or `{ file = \"path\" }`";

/// Reads secrets from where the file says they are: never from the file itself.
pub(super) struct Secrets<'a> {
    pub(super) environment: Environment<'a>,
    pub(super) folder: &'a Path,
}

impl Secrets<'_> {
    /// An optional secret. `None` also where it is wrong, which is then recorded.
    pub(super) fn read(&mut self, table: &mut Reader<'_>, name: &str) -> Option<Secret> {
        let value = table.take(name)?;
        // A secret in clear text in a configuration ends in a repository.
        let found = self.place(&value).unwrap_or_else(|| Err(SECRET.to_owned()));
        match found {
            Ok(secret) if !secret.expose().trim().is_empty() => {
                Some(Secret::new(secret.expose().trim()))
            }
            Ok(_) => {
                table.unexpected(name, "nothing", "a secret that is not empty");
                None
            }
            Err(expected) => {
                table.unexpected(name, "no secret", &expected);
                None
            }
        }
    }

    /// What stands at the place that `value` names; `None` where it names none. The error says what was expected there.
    pub(super) fn place(&self, value: &toml::Value) -> Option<Result<Secret, String>> {
        let place = value.as_table().filter(|place| place.len() == 1)?;
        let (kind, at) = place.iter().next()?;
        let at = at.as_str()?;
        let found = match kind.as_str() {
            "env" => (self.environment)(at)
                .ok_or_else(|| format!("the environment variable {at} to be set")),
            "file" => std::fs::read_to_string(self.folder.join(at))
                .map_err(|error| format!("a readable file {at} ({error})")),
            _ => return None,
        };
        Some(found.map(Secret::new))
    }
}
