//! A process that says what it has done, a line each, until it is killed.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

/// Runs that test of this very program in a process of its own, and kills it some microseconds after the line of which `is_last` says so. Answers
/// what it has said: the lines that begin with `name` and a colon, without that.
pub fn said_until_killed(
    test: &str,
    name: &str,
    environment: &[(&str, String)],
    micros: u64,
    mut is_last: impl FnMut(&str) -> bool,
) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--quiet"]);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (mut said, before) = (Vec::new(), format!("{name}: "));
    loop {
        let mut line = String::new();
        // A line without an end was cut off by the kill: nothing was promised.
        if out.read_line(&mut line).is_err() || !line.ends_with('\n') {
            break;
        }
        let Some((_, line)) = line.trim_end().rsplit_once(&before) else { continue };
        said.push(line.to_owned());
        if is_last(line) {
            // Not to wait for anything: to die at another moment each time.
            std::thread::sleep(Duration::from_micros(micros));
            let _ = child.kill();
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    said
}
