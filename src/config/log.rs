//! The subcommands: `postres log ...`.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;

/// What to do instead of serving.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Subcommand {
    /// Works on a log's files: shows, checks, mends or copies it, or makes a new one
    ///
    /// The exit code is 0 if that was done, 1 if it cannot be done or the files are not what they
    /// should be, and 2 for bad flags.
    #[command(
        subcommand,
        flatten_help = true,
        arg_required_else_help = false,
        disable_help_subcommand = true
    )]
    Log(LogCommand),
}

#[expect(missing_docs, reason = "clap would take it for the command's")]
#[derive(Debug, Clone, clap::Args)]
pub struct ExistingLog {
    /// The log: its folder, and the first part of its files' names
    #[arg(
        long,
        env = "POSTRES_WAL",
        hide_env_values = true,
        value_name = "PATH",
        default_value = "./wal_files/wal_file"
    )]
    pub wal: PathBuf,
}

/// What to do with a log.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum LogCommand {
    /// Prints the log's operations, one a line, in their order
    ///
    /// A line tells the operation's position, its time, its name, and its fields. Keys and values
    /// stand in quotes; what is not printable ASCII is escaped: \n, \x00. EXEC shows the operations
    /// that it holds. Of a compacted log these are what is left behind its snapshot, which is not
    /// shown. How the log ends is told on standard error. The log is not changed.
    Dump {
        #[expect(missing_docs, reason = "clap would take it for the command's")]
        #[command(flatten)]
        log: ExistingLog,

        /// Begins with the operation at this position; what is before it is not even read
        #[arg(long, value_name = "LSN", default_value_t = 1, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
        from: u64,

        /// Prints a JSON object for each operation
        ///
        /// As {"lsn":1,"time":1700000000000,"operation":"set","key":"a","value":"b"}, the time in
        /// milliseconds since 1970. A key or a value that is not UTF-8 is {"base64":"..."} in place
        /// of a string. The operations of an EXEC are objects too.
        #[arg(long)]
        json: bool,
    },

    /// Reads all files of a log, and tells what they hold and what is damaged
    ///
    /// It judges as a start does, reads also what a start would not, and changes nothing. The exit
    /// code is 0 if a server would start and no file is damaged; a write that a crash cut short is no
    /// damage, and is told. It is 1 if not; then a line names each damage.
    Check {
        #[expect(missing_docs, reason = "clap would take it for the command's")]
        #[command(flatten)]
        log: ExistingLog,
    },

    /// Mends what a start would mend, and tells each thing done
    ///
    /// What a crash cut short is cut off and kept aside, a file that is too short is filled, and
    /// what was left over or is superfluous is removed. Where a server would not start, nothing is
    /// changed: what is damaged has to come from a copy.
    Repair {
        #[expect(missing_docs, reason = "clap would take it for the command's")]
        #[command(flatten)]
        log: ExistingLog,
    },

    /// Copies a log into a folder, also while a server runs on it
    ///
    /// The copy holds every write that was acknowledged before the backup began. It is read back as
    /// `check` reads a log before it gets its names, and a server can be started on it.
    Backup {
        /// The folder; it is made if need be, and must not hold a log of this name
        #[arg(value_name = "FOLDER")]
        to: PathBuf,

        #[expect(missing_docs, reason = "clap would take it for the command's")]
        #[command(flatten)]
        log: ExistingLog,
    },

    /// Makes a new log of the text log of post-go-res
    ///
    /// The file is left as it is; it may lie where -wal points. An import that is cut short leaves
    /// no log that a server would take for a whole one; the next import clears what it left.
    Import {
        /// The text log
        file: PathBuf,

        /// The new log: its folder, and the first part of its files' names
        #[arg(
            long,
            env = "POSTRES_WAL",
            hide_env_values = true,
            value_name = "PATH",
            default_value = "./wal_files/wal_file"
        )]
        wal: PathBuf,

        /// Leaves out the lines that cannot be read for sure, and imports the others
        ///
        /// The text log has no mark between a length and what follows, so a line may be read in
        /// several ways, or in none, or at the end of the file lacks its line break and may have been
        /// longer. Such lines are shown, with their numbers, and nothing is imported without this flag.
        #[arg(long)]
        skip_unclear: bool,
    },
}
