//! Waits in a host function for far longer than anybody else does.

fn sleep(argument: String) -> String {
    std::thread::sleep(std::time::Duration::from_secs(3_600));
    argument
}

ambit_hostile::guest!(sleep);
