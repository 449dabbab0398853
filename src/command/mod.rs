//! Commands: one table of them, what each does, and how those that write are logged.
//!
//! A request becomes a [`Command`] ([`parse`]). One that reads is a function of the store. One
//! that writes is an [`Operation`], which is logged, and which [`apply()`] later carries out.

mod apply;
mod operation;
mod table;

pub use apply::apply;
pub use operation::{BadOperation, Operation};
pub use table::{Arity, COMMANDS, Spec};

use crate::protocol::{self, ErrorReply};
use crate::store::{InMemStore, Value};

/// What a command is answered with.
pub type Reply = protocol::Reply<Value>;

/// A command that reads: a function of the store and of the arguments behind the name.
pub type ReadFn = fn(&dyn InMemStore, &[&[u8]]) -> Reply;

/// What a request asks for.
#[derive(Debug)]
pub enum Command<'a> {
    /// A change, to be logged and then applied.
    Write(Operation<'a>),
    /// A look at the store.
    Read {
        /// What to do.
        run: ReadFn,
        /// The arguments behind the name.
        args: &'a [&'a [u8]],
    },
    /// Answered without the store; also every error.
    Ready(Reply),
    /// Answered with OK, and then the connection is closed.
    Quit,
    /// Not a client of ours but a browser that was made to send lines: closed without an answer.
    Forged,
}

/// Finds the command that a request names, and checks its arguments.
pub fn parse<'a>(request: &'a [&'a [u8]]) -> Command<'a> {
    let Some((name, args)) = request.split_first() else {
        return Command::Ready(Reply::Error(ErrorReply::UnknownCommand));
    };
    // A page in a browser can send `POST` to a local port, its body being lines of its choice.
    if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:") {
        return Command::Forged;
    }
    let Some(spec) = COMMANDS.iter().find(|spec| spec.is_named(name)) else {
        return Command::Ready(Reply::Error(ErrorReply::UnknownCommand));
    };
    if !spec.arity.allows(args.len()) {
        return Command::Ready(Reply::Error(spec.wrong_count()));
    }
    (spec.parse)(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> String {
        let request: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        match parse(&request) {
            Command::Ready(reply) => format!("{reply:?}"),
            command => format!("{command:?}"),
        }
    }

    #[test]
    fn a_name_is_taken_in_any_case() {
        for words in ["SET k v", "set k v", "sEt k v"] {
            assert!(parse_words(words).starts_with("Write(Set"), "{words}");
        }
        assert!(parse_words("SETT k v").contains("UnknownCommand"));
    }

    #[test]
    fn every_command_refuses_too_few_and_too_many_arguments() {
        for spec in COMMANDS {
            for count in 0..5 {
                let words = [&[spec.name][..], &vec!["x"; count]].concat().join(" ");
                let refused = parse_words(&words).contains("WrongCount");
                assert_eq!(refused, !spec.arity.allows(count), "{words}");
            }
        }
    }

    #[test]
    fn the_original_s_words_for_a_wrong_count() {
        for (words, expected) in [
            ("SET k", "2 arguments KEY and VALUE"),
            ("SET k v w", "2 arguments KEY and VALUE"),
            ("GET", "1 argument KEY"),
            ("DEL a b", "1 argument KEY"),
            ("EXISTS", "at least 1 argument KEY"),
            ("PING a b", "at most 1 argument MESSAGE"),
            ("DBSIZE x", "no argument"),
        ] {
            let reply = parse_words(words);
            assert!(reply.contains(&format!("{expected:?}")), "{words}: {reply}");
        }
    }

    #[test]
    fn what_a_browser_can_be_made_to_send_is_recognized() {
        for words in ["POST / HTTP/1.1", "post x", "Host: localhost", "host: x"] {
            assert_eq!(parse_words(words), "Forged");
        }
    }
}
