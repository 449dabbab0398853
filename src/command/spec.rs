//! What the table of commands says of each.

use super::{Command, ReadFn};
use crate::protocol::{Dialect, ErrorReply};

/// A row of the table, or of a command's table of subcommands.
#[derive(Debug)]
pub struct Spec {
    /// The name, in capitals; a subcommand's is the whole, such as `CLIENT|KILL`.
    pub name: &'static str,
    /// How many words a request has, its name counted; negative where it may have more.
    pub arity: i16,
    /// What else is to be known of it.
    pub flags: Flags,
    /// Where its keys stand.
    pub keys: Keys,
    /// What it belongs to.
    pub group: Group,
    /// The version of Redis or Valkey that had it first, or of postres.
    pub since: &'static str,
    /// What it costs.
    pub complexity: &'static str,
    /// The names of the arguments that it must have.
    pub required: &'static [&'static str],
    /// The rest of its arguments, as one writes them.
    pub optional: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// How it is carried out.
    pub run: Run,
    /// Its subcommands, if it is known by them.
    pub subcommands: &'static [Spec],
}

/// How a command is carried out.
#[derive(Debug, Clone, Copy)]
pub enum Run {
    /// Its arguments make an operation, or show that none is needed.
    Parsed(for<'a> fn(&'a [&'a [u8]]) -> Result<Command<'a>, ErrorReply>),
    /// It reads one key.
    Read(ReadFn),
    /// It looks at many keys, and makes no claim about any two of them.
    Walk(ReadFn),
    /// The same, and it may take so long that other clients must not wait for it.
    Long(ReadFn),
    /// It reads several keys, which must be seen as they were together at one moment.
    ReadWhole(ReadFn),
    /// It concerns the connection or the server.
    Server(ServerCommand),
}

/// Commands of the connection and of the server, which the server itself carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the command of its name")]
pub enum ServerCommand {
    Auth,
    Client(ClientCommand),
    Command(CommandCommand),
    Config(ConfigCommand),
    Debug,
    Discard,
    Exec,
    Hello,
    Info,
    LastSave,
    Save,
    BackgroundSave,
    RewriteLog,
    Latency(LatencyCommand),
    Monitor,
    Multi,
    Quit,
    Reset,
    Select,
    Shutdown,
    SlowLog(SlowLogCommand),
    Time,
    Unwatch,
    Wait,
    WaitAof,
    Watch,
}

/// The subcommands of CLIENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the subcommand of its name")]
pub enum ClientCommand {
    GetName,
    GetRedir,
    Id,
    Info,
    Kill,
    List,
    NoEvict,
    NoTouch,
    Pause,
    Reply,
    SetInfo,
    SetName,
    Unblock,
    Unpause,
}

/// COMMAND alone, and its subcommands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the subcommand of its name")]
pub enum CommandCommand {
    All,
    Count,
    Docs,
    GetKeys,
    GetKeysAndFlags,
    Info,
    List,
}

/// The subcommands of CONFIG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the subcommand of its name")]
pub enum ConfigCommand {
    Get,
    ResetStat,
    Rewrite,
    Set,
}

/// The subcommands of LATENCY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the subcommand of its name")]
pub enum LatencyCommand {
    Doctor,
    Graph,
    Histogram,
    History,
    Latest,
    Reset,
}

/// The subcommands of SLOWLOG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the subcommand of its name")]
pub enum SlowLogCommand {
    Get,
    Len,
    Reset,
}

/// Properties of a command, as `COMMAND` tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// It may change the store.
    pub const WRITE: Self = Self(1);
    /// It reads keys.
    pub const READONLY: Self = Self(1 << 1);
    /// It may need more memory.
    pub const DENYOOM: Self = Self(1 << 2);
    /// It is for whoever runs the server.
    pub const ADMIN: Self = Self(1 << 3);
    /// Its time does not grow with what is stored.
    pub const FAST: Self = Self(1 << 4);
    /// Not in a script.
    pub const NOSCRIPT: Self = Self(1 << 5);
    /// Also while the log is read.
    pub const LOADING: Self = Self(1 << 6);
    /// Also on a replica that has lost its primary.
    pub const STALE: Self = Self(1 << 7);
    /// Also before AUTH.
    pub const NO_AUTH: Self = Self(1 << 8);
    /// Not in a transaction.
    pub const NO_MULTI: Self = Self(1 << 9);
    /// It may wait.
    pub const BLOCKING: Self = Self(1 << 10);
    /// Not shown by MONITOR.
    pub const SKIP_MONITOR: Self = Self(1 << 11);
    /// Not in the slow log.
    pub const SKIP_SLOWLOG: Self = Self(1 << 12);
    /// Its keys are found by looking at its arguments.
    pub const MOVABLEKEYS: Self = Self(1 << 13);
    /// Also while a script runs too long.
    pub const ALLOW_BUSY: Self = Self(1 << 14);
    /// Not while a snapshot is loaded.
    pub const NO_ASYNC_LOADING: Self = Self(1 << 15);

    /// Each flag and its name.
    pub const NAMES: &'static [(Self, &'static str)] = &[
        (Self::WRITE, "write"),
        (Self::READONLY, "readonly"),
        (Self::DENYOOM, "denyoom"),
        (Self::ADMIN, "admin"),
        (Self::NOSCRIPT, "noscript"),
        (Self::BLOCKING, "blocking"),
        (Self::LOADING, "loading"),
        (Self::STALE, "stale"),
        (Self::SKIP_MONITOR, "skip_monitor"),
        (Self::SKIP_SLOWLOG, "skip_slowlog"),
        (Self::FAST, "fast"),
        (Self::NO_AUTH, "no_auth"),
        (Self::NO_ASYNC_LOADING, "no_async_loading"),
        (Self::NO_MULTI, "no_multi"),
        (Self::MOVABLEKEYS, "movablekeys"),
        (Self::ALLOW_BUSY, "allow_busy"),
    ];

    /// These and those.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Where a command's keys stand among its words, the name being word 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The first; 0 if there is none.
    pub first: i16,
    /// The last; negative counts from the end.
    pub last: i16,
    /// From one to the next.
    pub step: i16,
}

impl Keys {
    /// There is none.
    pub const NONE: Self = Self::range(0, 0, 0);
    /// The first argument.
    pub const FIRST: Self = Self::range(1, 1, 1);
    /// The first two arguments.
    pub const TWO: Self = Self::range(1, 2, 1);
    /// All arguments.
    pub const ALL: Self = Self::range(1, -1, 1);

    /// From `first` to `last` in steps.
    pub const fn range(first: i16, last: i16, step: i16) -> Self {
        Self { first, last, step }
    }
}

/// What a command belongs to, as `COMMAND DOCS` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is named for its commands")]
pub enum Group {
    String,
    Bitmap,
    Generic,
    Transactions,
    Connection,
    Server,
}

impl Group {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Bitmap => "bitmap",
            Self::Generic => "generic",
            Self::Transactions => "transactions",
            Self::Connection => "connection",
            Self::Server => "server",
        }
    }
}

impl Spec {
    /// What most rows have; each gives its own name, arity and summary.
    pub const BASE: Self = Self {
        name: "",
        arity: 0,
        flags: Flags::NONE,
        keys: Keys::NONE,
        group: Group::String,
        since: "1.0.0",
        complexity: "O(1)",
        required: &[],
        optional: "",
        summary: "",
        run: Run::Server(ServerCommand::Command(CommandCommand::All)),
        subcommands: &[],
    };

    /// Whether a request of `words` words, the name counted, can be this command.
    pub fn allows(&self, words: usize) -> bool {
        let least = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 {
            words >= least
        } else {
            words == least
        }
    }

    /// The same for a request that came in this dialect: on a line DEL takes one key, as it did in
    /// post-go-res.
    pub fn allows_in(&self, dialect: Dialect, words: usize) -> bool {
        let one_only = self.name == "DEL" && matches!(dialect, Dialect::Line | Dialect::LineCrLf);
        self.allows(words) && (!one_only || words == 2)
    }

    /// The error for a wrong number of arguments.
    pub fn wrong_count(&self) -> ErrorReply {
        ErrorReply::WrongCount {
            command: self.name,
            expected: self.expected(),
        }
    }

    /// What it expects, such as `2 arguments KEY and VALUE`. The three commands of post-go-res say
    /// what they said there.
    pub fn expected(&self) -> String {
        let original = matches!(self.name, "SET" | "GET" | "DEL");
        let words = self.name.split('|').count();
        let count = usize::from(self.arity.unsigned_abs()).saturating_sub(words);
        let prefix = match self.arity {
            ..0 if !original => "at least ",
            _ => "",
        };
        let names: Vec<_> = self
            .required
            .iter()
            .map(|name| name.to_uppercase())
            .collect();
        let names = names.join(" and ");
        match count {
            0 if !self.optional.is_empty() => self.optional.to_owned(),
            0 => "no argument".to_owned(),
            1 => format!("{prefix}1 argument {names}"),
            n => format!("{prefix}{n} arguments {names}"),
        }
    }

    /// The command as one writes it, such as `EXISTS key [key ...]`.
    pub fn usage(&self) -> String {
        let mut usage = self.name.replace('|', " ");
        for argument in self.required {
            usage = format!("{usage} {argument}");
        }
        if !self.optional.is_empty() {
            usage = format!("{usage} {}", self.optional);
        }
        usage
    }

    /// The subcommand of this name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        self.subcommands.iter().find(|subcommand| {
            let own = subcommand.name.rsplit('|').next().unwrap_or_default();
            own.as_bytes().eq_ignore_ascii_case(name)
        })
    }
}
