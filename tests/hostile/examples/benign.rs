//! Does what it should: the neighbour of all the others.

fn greet(name: String) -> String {
    format!("hello {name}")
}

ambit_hostile::guest!(greet);
