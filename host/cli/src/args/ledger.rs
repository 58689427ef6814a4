//! The commands about money.

use super::Target;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Budget {
    /// Set a budget, or change its limit. What was counted in its window goes on to count.
    #[command(
        after_help = "Examples:\n  ambit budget set 50 --tenant acme --period month\n  ambit budget set 0.25 --tenant acme --period day --key '*'\n\
            \nA call falls under every budget that fits it, and each must have enough for the most it can cost."
    )]
    Set {
        /// What may be spent in each window, for example 12.50, in the price file's currency.
        limit: String,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        target: Target,
    },
    /// List a tenant's budgets and where each stands.
    List {
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
    /// Remove a budget.
    Remove {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        target: Target,
    },
}

/// Which budget. By default the tenant's own.
#[derive(Debug, Args)]
pub(crate) struct Of {
    #[arg(long)]
    pub(crate) tenant: String,
    /// When it begins anew, in UTC.
    #[arg(long, value_enum, default_value_t = Period::Month)]
    pub(crate) period: Period,
    /// Of one API key, by its public id; `*`: of each that has none of its own.
    #[arg(long, group = "scope")]
    pub(crate) key: Option<String>,
    /// Of one agent; `*`: of each.
    #[arg(long, group = "scope")]
    pub(crate) agent: Option<String>,
    /// Of one session; `*`: of each.
    #[arg(long, group = "scope")]
    pub(crate) session: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Period {
    Day,
    Month,
    /// Never.
    None,
}

/// Show what was spent, and check that the ledger says what the journal does.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ambit costs\n  ambit costs --tenant acme --by agent,model --from 2026-11-01\n  ambit costs --check"
)]
pub(crate) struct Costs {
    /// One tenant. By default all of them.
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// The first day, as 2026-11-21, in UTC. By default 30 days are told.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// The last day. By default today.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// What costs are told apart by, beside the tenant.
    #[arg(long, value_delimiter = ',', default_values = ["model"], value_parser = ["agent", "key", "model", "day"])]
    pub(crate) by: Vec<String>,
    /// Compare with the journal; fails where they differ.
    #[arg(long, conflicts_with_all = ["from", "to", "by"])]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}
