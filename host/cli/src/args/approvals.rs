//! The commands about what agents wait for.

use super::Target;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// List what agents wait for somebody to approve of, newest first.
    List {
        /// One tenant. By default all of them.
        #[arg(long)]
        tenant: Option<String>,
        /// Decided and expired ones too.
        #[arg(long)]
        all: bool,
        /// How many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
        #[command(flatten)]
        target: Target,
    },
    /// Show one with the whole of its arguments.
    Show {
        /// Its id, apr_…
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Approve of one call, with these very arguments, once. With the last decision it waits for, its session goes on.
    Approve(Decide),
    /// Refuse one call. The agent is told so, and why.
    Deny(Decide),
    /// Write down every action that needed an approval and that anything happened to in some days, with what became of it: as CSV, or as JSON with
    /// --format json.
    #[command(
        after_help = "Examples:\n  ambit approvals export --day 2026-11-21 > approvals.csv\n  \
                      ambit approvals export --week 2026-11-21 --tenant acme --format json\n\
                      \nDays and weeks are those of UTC; a week is from Monday to Sunday."
    )]
    Export {
        /// One tenant. By default all of them.
        #[arg(long)]
        tenant: Option<String>,
        /// What was asked for, decided, done or ended on this day. By default today.
        #[arg(long, value_name = "DATE", group = "when")]
        day: Option<String>,
        /// The same of the week of this day.
        #[arg(long, value_name = "DATE", group = "when")]
        week: Option<String>,
        /// The first day.
        #[arg(long, value_name = "DATE", conflicts_with = "when", requires = "to")]
        from: Option<String>,
        /// The last day.
        #[arg(long, value_name = "DATE", conflicts_with = "when", requires = "from")]
        to: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Decide {
    /// Its id, apr_…
    pub(crate) id: String,
    /// Why: for the journal, and of a refusal for the agent.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}
