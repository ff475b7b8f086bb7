//! The desktop that `scripts/with-desktop` made: its windows, its focus, its keys, its picture.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use tokio::sync::{Mutex, MutexGuard};

use super::{pictures, processes, wait_for};

/// There is one focus and one screen, so one test at a time has them.
static TURN: Mutex<()> = Mutex::const_new(());

pub struct Desktop {
    _turn: MutexGuard<'static, ()>,
}

impl Desktop {
    /// Waits for the turn of this test, and fails when there is no desktop to take.
    pub async fn take() -> Desktop {
        assert!(
            std::env::var_os("STORAGE_SYNC_DESKTOP").is_some(),
            "these tests need a desktop of their own: run `scripts/test window`, \
             or `scripts/with-desktop cargo test --test window`"
        );
        for tool in ["tauri-driver", "WebKitWebDriver", "xdotool", "xterm", "import"] {
            let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", tool]).status();
            assert!(found.is_ok_and(|status| status.success()), "{tool} is missing: `scripts/setup` installs it");
        }
        Desktop { _turn: TURN.lock().await }
    }

    /// The visible top-level windows of a process.
    pub fn windows(&self, pid: u32) -> Vec<String> {
        xdotool(&["search", "--all", "--onlyvisible", "--pid", &pid.to_string(), "--name", "."])
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The one window of a process, once it is shown.
    pub async fn window(&self, pid: u32) -> String {
        wait_for("a visible window", async || {
            self.windows(pid).pop().ok_or_else(|| format!("process {pid} shows none"))
        })
        .await
    }

    /// Gives a window the focus as a user does, through the window manager.
    pub async fn activate(&self, window: &str) {
        wait_for("the focus to move", async || {
            xdotool(&["windowactivate", window]);
            let now = xdotool(&["getactivewindow"]);
            (now.trim() == window).then_some(()).ok_or_else(|| format!("window {now} has it"))
        })
        .await;
    }

    /// Closes a window as a user does, with the window manager's key.
    pub async fn close(&self, pid: u32) {
        let window = self.window(pid).await;
        self.activate(&window).await;
        xdotool(&["key", "--clearmodifiers", "alt+F4"]);
        wait_for("the window to close", async || {
            self.windows(pid).is_empty().then_some(()).ok_or_else(|| "it is still shown".to_owned())
        })
        .await;
    }

    /// Ends the keychain's prompt, if it stands there: it keeps the keyboard to itself, whatever became of the keychain.
    pub async fn end_prompt(&self) {
        wait_for("the prompt to be gone", async || {
            let prompts = xdotool(&["search", "--onlyvisible", "--name", "Unlock Login Keyring"]);
            prompts.lines().for_each(|prompt| drop(xdotool(&["windowkill", prompt])));
            prompts.is_empty().then_some(()).ok_or_else(|| "it is still shown".to_owned())
        })
        .await;
    }

    /// Another program's window, which takes the focus away.
    pub async fn distraction(&self) -> Distraction {
        let program = Command::new("xterm")
            .args(["-geometry", "40x5-0-0", "-e", "cat"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("xterm starts");
        let window = self.window(program.id()).await;
        Distraction { program, window }
    }

    /// Takes a file up in another program's window, and holds it.
    pub async fn drag(&self, file: &Path) -> Drag {
        let program = Command::new("/usr/bin/python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/window/support/drag.py"))
            .arg(file)
            .spawn()
            .expect("scripts/setup installs python3-gi");
        let mut drag = Drag { program, steps: 0 };
        let window = self.window(drag.program.id()).await;
        wait_for("the file to be taken up", async || {
            // It may still be on its way to its place.
            xdotool(&["mouseup", "1", "mousemove", "--window", &window, "60", "60", "mousedown", "1"]);
            (0..20).for_each(|_| drag.wiggle());
            let title = xdotool(&["getwindowname", &window]);
            (title.trim() == "A file in hand").then_some(()).ok_or_else(|| format!("its title is {title:?}"))
        })
        .await;
        drag
    }
}

/// Where on the screen a file is held that is dragged: over the page of a window that fills it.
const RESTS: (i32, i32) = (640, 500);

/// A file in the hand of the user.
pub struct Drag {
    program: Child,
    steps: i32,
}

impl Drag {
    /// Moves it a little, as a hand does: programs learn of it by such moves only.
    pub fn wiggle(&mut self) {
        self.steps += 1;
        let (x, y) = RESTS;
        let aside = self.steps % 9;
        xdotool(&["mousemove", &(x + aside).to_string(), &(y + aside).to_string()]);
    }

    /// Lets go of it.
    pub fn let_go(&mut self) {
        xdotool(&["mouseup", "1"]);
    }
}

impl Drop for Drag {
    fn drop(&mut self) {
        self.let_go();
        processes::kill_9(self.program.id());
        let _ = self.program.wait();
    }
}

/// A window of another program; gone when dropped.
pub struct Distraction {
    program: Child,
    pub window: String,
}

impl Drop for Distraction {
    fn drop(&mut self) {
        processes::kill_9(self.program.id());
        let _ = self.program.wait();
    }
}

/// The whole screen, frames and all, as `<target>/window/<name>.png`.
pub fn picture(name: &str) {
    let file = pictures().join(format!("{name}.png"));
    let status = Command::new("import").args(["-window", "root"]).arg(&file).status();
    // Called on the way out of a failing test too, where a second panic would hide the first.
    if status.is_ok_and(|status| status.success()) {
        println!("picture: {}", file.display());
    } else {
        println!("no picture could be taken: {}", file.display());
    }
}

/// Runs `xdotool` and answers what it printed; a search without a hit exits with 1 and prints nothing.
fn xdotool(arguments: &[&str]) -> String {
    let output = Command::new("xdotool").args(arguments).stderr(Stdio::null()).output().expect("xdotool starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
