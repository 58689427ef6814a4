//! Writes to both outputs without end, in lines long and short.

use std::io::Write as _;

fn flood(argument: String) -> String {
    let line = argument.repeat(100);
    loop {
        let _ = writeln!(std::io::stdout(), "{line}");
        let _ = write!(std::io::stderr(), "x");
    }
}

ambit_hostile::guest!(flood);
