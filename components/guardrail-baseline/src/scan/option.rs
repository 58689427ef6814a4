//! A credential handed to a program on its command line: `mysql -pS3cret`, `sshpass -p S3cret`, `curl -u name:S3cret`.
//!
//! An option's letter means something else to every program, so the program's name has to stand shortly before.

use super::assignment::is_stand_in;
use super::context::Command;
use super::{Candidate, Context};
use crate::category::{BASIC_AUTH, PASSWORD};

pub(crate) fn scan(text: &[u8], context: &Context, found: &mut Vec<Candidate>) {
    let Some(command) = context.near_command() else {
        return;
    };
    let option: &[u8] = match command {
        Command::Password | Command::AttachedPassword => b"-p",
        Command::Auth => b"-a",
        Command::Word => b"-w",
        Command::User => b"-u",
    };
    for at in (0..text.len()).filter(|at| *at == 0 || text[at - 1] == b' ') {
        let Some(rest) = text[at..].strip_prefix(option) else {
            continue;
        };
        let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
        // `mysql -p NAME` asks for the password; the name is a database's.
        if spaces > 0 && command == Command::AttachedPassword {
            continue;
        }
        let start = at + option.len() + spaces;
        let (start, end) = unquoted(text, start);
        let value = &text[start..end];
        let (category, secret) = match command {
            Command::User => match value.iter().position(|byte| *byte == b':') {
                Some(colon) => (BASIC_AUTH, start + colon + 1),
                None => continue,
            },
            _ => (PASSWORD, start),
        };
        if is_password(&text[secret..end]) {
            found.push(Candidate::new(secret, end, category, 45));
        }
    }
}

/// From `start` to the next space, or what stands in quotes there.
fn unquoted(text: &[u8], start: usize) -> (usize, usize) {
    let rest = &text[start..];
    let (start, stop) = match rest.first() {
        Some(quote @ (b'"' | b'\'')) => (start + 1, *quote),
        _ => (start, b' '),
    };
    let length = text[start..]
        .iter()
        .take_while(|byte| **byte != stop && !b"`;|<>".contains(byte))
        .count();
    (start, start + length)
}

/// Not another option, a path, a port or a stand-in.
fn is_password(value: &[u8]) -> bool {
    value.len() >= 4
        && !matches!(value[0], b'-' | b'/' | b'.' | b'@')
        && !value
            .iter()
            .all(|byte| byte.is_ascii_digit() || b":./".contains(byte))
        && !is_stand_in(value)
}
