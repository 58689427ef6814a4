//! The command line as clap reads it. What a command does is in `commands`.

mod approvals;
mod ledger;

pub(crate) use approvals::{Approvals, Decide};
pub(crate) use ledger::{Budget, Costs, Of, Period};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{net::SocketAddr, path::PathBuf};
use url::Url;

/// Runs AI agents for many tenants, each component confined to its own permissions.
#[derive(Debug, Parser)]
#[command(
    name = "ambit",
    version,
    about,
    max_term_width = 120,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the embedded default: SQLite and files in one folder, two demo tenants, no model key needed.
    #[command(
        after_help = "Examples:\n  ambit up\n  OPENAI_API_KEY=… ambit up\n  ambit up --provider-url http://127.0.0.1:11434/v1 --model llama3.2"
    )]
    Up(Up),
    /// Serve with a configuration file of your own. See docs/configuration.md.
    Serve {
        /// The configuration file.
        #[arg(long, default_value = "ambit.toml")]
        config: PathBuf,
        /// Where the built components are. By default where the configuration says, or beside this program.
        #[arg(long)]
        components: Option<PathBuf>,
    },
    /// Install, look into and swap components.
    #[command(subcommand)]
    Component(Component),
    /// Show and set what components may do.
    #[command(subcommand)]
    Grant(Grant),
    /// Apply and list agents.
    #[command(subcommand)]
    Agent(Agent),
    /// Create and list tenants.
    #[command(subcommand)]
    Tenant(Tenant),
    /// Create, list and revoke API keys.
    #[command(subcommand)]
    Key(Key),
    /// List and revoke capability tokens. Whoever has a credential makes them: POST /v1/tokens.
    #[command(subcommand)]
    Token(Token),
    /// Set, list and remove budgets.
    #[command(subcommand)]
    Budget(Budget),
    Costs(Costs),
    /// Load, list and delete collections of documents.
    #[command(subcommand)]
    Collection(Collection),
    /// List sessions, and erase what was said in them.
    #[command(subcommand)]
    Session(Session),
    /// Decide on what agents may do only once somebody approved of it.
    #[command(subcommand)]
    Approvals(Approvals),
    /// Prove what was recorded: verify it, export it.
    #[command(subcommand)]
    Audit(Audit),
    /// Talk to an agent, as a client of the tenant's API.
    Chat(Chat),
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where everything is kept.
    #[arg(long, env = "AMBIT_DATA", default_value = "ambit-data")]
    pub(crate) data: PathBuf,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// An OpenAI-compatible model server (vLLM, Ollama, llama.cpp). Its key is taken from OPENAI_API_KEY, if set.
    #[arg(long)]
    pub(crate) provider_url: Option<Url>,
    /// The provider's model for the demo agents. By default the first one the provider lists.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Where the built components are. By default beside this program.
    #[arg(long)]
    pub(crate) components: Option<PathBuf>,
    /// `json`: the first line on stdout, printed when ready, is one JSON object.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Which installation a command speaks to.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The installation's folder. Its server is asked if it runs, else the command does the work itself.
    #[arg(long, env = "AMBIT_DATA", default_value = "ambit-data")]
    pub(crate) data: PathBuf,
    /// The ops address of a server elsewhere, for example http://10.0.0.5:9090. Needs --admin-key.
    #[arg(long, env = "AMBIT_URL", requires = "admin_key")]
    pub(crate) url: Option<Url>,
    /// The admin key of that server.
    #[arg(long, env = "AMBIT_ADMIN_KEY", hide_env_values = true)]
    pub(crate) admin_key: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Component {
    /// Show a component's imports, exports and asked permissions, and what a grant leaves of them.
    Inspect(Look),
    /// Check that a component would be admitted under a grant; lists everything that is missing, and fails if anything is.
    Check(Look),
    /// Install a component from a file. Installing it again changes nothing.
    Install {
        /// The .wasm file.
        path: PathBuf,
        /// Its component.toml, or a spin.toml that holds the same. By default beside the file, as NAME.toml or component.toml.
        #[arg(long)]
        manifest: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// Put another component in a slot, while requests run: none fails and none sees two versions.
    Swap {
        /// routing, auth/0, auth/1, …, guardrail, retrieval, agent/NAME or tool/NAME.
        slot: String,
        /// A digest, NAME@VERSION, or NAME for its newest installation.
        component: String,
        /// For this tenant only. By default for every tenant that binds none itself.
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// List installed components and the slots they fill.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Build step of pure components: run their start-up code once and keep the memory it leaves.
    #[command(hide = true)]
    Snapshot { input: PathBuf, output: PathBuf },
}

#[derive(Debug, Args)]
pub(crate) struct Look {
    /// The .wasm file. With --data or --url also an installed component: its digest, NAME@VERSION, or NAME for its newest installation.
    #[arg(value_name = "PATH")]
    pub(crate) component: String,
    /// Its component.toml, or a spin.toml that holds the same. By default beside the file, as NAME.toml or component.toml.
    #[arg(long)]
    pub(crate) manifest: Option<PathBuf>,
    /// A grant as TOML: the `[permissions]` of a manifest without that heading, and `[limits]` where it narrows them. Without one: what
    /// the installation named by --data or --url grants the component, or nothing.
    #[arg(long)]
    pub(crate) grant: Option<PathBuf>,
    /// The folder of an installation, for its grants and installed components.
    #[arg(long, env = "AMBIT_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// The ops address of a server elsewhere, for its grants and installed components. Needs --admin-key.
    #[arg(long, env = "AMBIT_URL", requires = "admin_key")]
    pub(crate) url: Option<Url>,
    /// The admin key of that server.
    #[arg(long, env = "AMBIT_ADMIN_KEY", hide_env_values = true)]
    pub(crate) admin_key: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

impl Look {
    /// The installation that was named, if one was.
    pub(crate) fn target(&self) -> Option<Target> {
        (self.data.is_some() || self.url.is_some()).then(|| Target {
            data: self.data.clone().unwrap_or_default(),
            url: self.url.clone(),
            admin_key: self.admin_key.clone(),
            format: self.format,
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Grant {
    /// Show what is granted, to one component or to all, and the limits this leaves each installed version.
    Show {
        /// NAMESPACE:NAME; `ambit:pass-through` is plain model access by provider/model.
        component: Option<String>,
        /// What this tenant's own grants leave.
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Put a grant in place of the present one.
    #[command(
        after_help = "Example:\n  echo '[[http]]\norigin = \"https://docs.example.com\"\nmethods = [\"GET\"]' | ambit grant set ambit:web-fetch -"
    )]
    Set {
        component: String,
        /// A TOML file, or - for standard input.
        file: PathBuf,
        /// Narrow it for this tenant only.
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Create or change an agent from its TOML definition.
    Apply {
        /// The definition, or - for standard input.
        file: PathBuf,
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
    /// List a tenant's agents and whether each could be bound.
    List {
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// Create a tenant. One that is there stays as it is.
    Create {
        /// Its label under the base domain.
        slug: String,
        #[arg(long)]
        display_name: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// List tenants and what of them could not be bound.
    List {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Create an API key. Its secret is shown once, here.
    Create {
        /// What to call it.
        name: String,
        #[arg(long)]
        tenant: String,
        /// What it may do. By default everything but `approve`: to decide on what agents of anybody in the tenant wait for.
        #[arg(long, value_delimiter = ',', value_parser = ["chat", "retrieve", "moderate", "approve"])]
        scopes: Option<Vec<String>>,
        /// Days until it expires. By default never.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: Option<u32>,
        /// What it narrows every component to: a grant in TOML, or - for standard input. By default it does not narrow.
        #[arg(long, value_name = "FILE")]
        permissions: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// List a tenant's keys, without their secrets.
    List {
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
    /// Revoke a key, at once and for good.
    Revoke {
        /// Its public id, the middle part of the key.
        id: String,
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// List a tenant's tokens, newest first.
    List {
        #[arg(long)]
        tenant: String,
        /// How many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(flatten)]
        target: Target,
    },
    /// Revoke a token with everything that was delegated from it, at once and for good.
    Revoke {
        /// Its id, tok_…
        id: String,
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Collection {
    /// Load documents: a folder of Markdown, text and HTML, or a JSONL file. Creates the collection. Unchanged documents cost nothing, so a
    /// broken load is resumed by repeating it.
    Load {
        name: String,
        /// A folder, a document, or a .jsonl file with rows {_id, title, text, …attributes}.
        path: PathBuf,
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
    /// List a tenant's collections with their sizes.
    List {
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a collection, or only the documents whose id starts with a prefix.
    Delete {
        name: String,
        /// Only documents whose id starts so.
        #[arg(long)]
        prefix: Option<String>,
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List a tenant's sessions, newest first.
    List {
        /// How many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
    /// Take a session's steps again: its agent must decide the same from what the journal says it was told. Exit code 1 where it does not.
    ///
    /// With --model or --prompt the whole session is gone through again, as a session of its own: models are asked, tools and collections answer from
    /// the journal.
    #[command(
        after_help = "Examples:\n  ambit session replay ses_… --tenant acme\n  \
                      ambit session replay ses_… --tenant acme --model openai/gpt-5-mini\n  \
                      ambit session replay ses_… --tenant acme --prompt \"Answer in one sentence.\""
    )]
    Replay {
        session: String,
        /// One of the agent's models, `provider/model`.
        #[arg(long)]
        model: Option<String>,
        /// Instructions in place of the agent's.
        #[arg(long)]
        prompt: Option<String>,
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
    /// Erase what was said, for good: in one session, or in every closed session of a principal. Its events stay and still verify.
    Erase {
        /// One session, by its id.
        #[arg(
            long,
            required_unless_present = "principal",
            conflicts_with = "principal"
        )]
        session: Option<String>,
        /// Every closed session of this principal.
        #[arg(long)]
        principal: Option<String>,
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Verify that what is recorded is what was recorded: every event of a tenant, or of all, against the signed anchors.
    #[command(
        after_help = "Examples:\n  ambit audit verify\n  ambit audit verify --tenant acme --session ses_… --key \"$KEY\"\n  \
                      ambit audit verify --export acme.jsonl --key \"$KEY\" --anchors /mnt/anchors   (offline)"
    )]
    Verify {
        /// One tenant. By default all of them.
        #[arg(long, conflicts_with = "export", group = "which")]
        tenant: Option<String>,
        /// One session of it.
        #[arg(long, requires = "tenant")]
        session: Option<String>,
        /// A file that `ambit audit export` wrote: nothing but it, the key and the anchors is needed then.
        #[arg(long, requires = "key", group = "which")]
        export: Option<PathBuf>,
        /// Where anchors are kept: the folder, or `s3://BUCKET/PREFIX`, read with the AWS credentials and region of whoever asks. By default
        /// the installation's own folder, where there is one.
        #[arg(long)]
        anchors: Option<PathBuf>,
        /// An earlier export of the tenant, of which the first line is enough: what is verified must go on from it, with nothing that was
        /// there then changed or gone.
        #[arg(long, requires = "which")]
        earlier: Option<PathBuf>,
        /// The public key, as `ambit audit key` told it once. Without it the server is asked, and vouches for itself.
        #[arg(long, env = "AMBIT_ANCHOR_KEY")]
        key: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Write a tenant's journal to a file that verifies without the server and without other tenants' data.
    Export {
        #[arg(long)]
        tenant: String,
        /// One session. By default all of them.
        #[arg(long)]
        session: Option<String>,
        /// Where to. By default to standard output.
        #[arg(long)]
        output: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// Print the public key that anchors are verified with. Keep it where the operator cannot change it.
    Key {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// What to say. Without it, lines of standard input are a conversation.
    pub(crate) message: Option<String>,
    /// An agent, or provider/model.
    #[arg(long, default_value = "assistant")]
    pub(crate) agent: String,
    /// The tenant.
    #[arg(long, default_value = "acme")]
    pub(crate) tenant: String,
    /// An API key. By default the tenant's bootstrap key, or one made for this conversation and revoked after it.
    #[arg(long, env = "AMBIT_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// The tenant's API elsewhere, for example https://acme.example.com. Needs --key, or --url to have one made. By default where the
    /// installation says it is; a --url of https says no more than its own address, so name both.
    #[arg(long)]
    pub(crate) api: Option<Url>,
    /// The ops address of a server elsewhere, for example http://10.0.0.5:9090. Needs --admin-key.
    #[arg(long, env = "AMBIT_URL", requires = "admin_key")]
    pub(crate) url: Option<Url>,
    /// The admin key of that server.
    #[arg(long, env = "AMBIT_ADMIN_KEY", hide_env_values = true)]
    pub(crate) admin_key: Option<String>,
    /// The installation's folder. Its server is asked if it runs, else the command serves itself for as long as it talks.
    #[arg(long, env = "AMBIT_DATA", default_value = "ambit-data")]
    pub(crate) data: PathBuf,
}
