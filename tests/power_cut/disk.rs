//! A file system on a loop device, and copies of it as a power cut would leave it.
//!
//! Making and mounting it is for root: whoever else runs the test does it with `sudo -n`. The files in it are theirs.

use std::{
    ffi::OsStr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// What tells one file from another in how it keeps them.
#[derive(Debug, Clone, Copy)]
pub enum System {
    /// One journal for all: whatever is synced takes everything before it along.
    Ext4,
    /// A log for each file: what is synced takes nothing along, and the new name of a file is lost unless its folder is synced.
    Btrfs,
}

/// A mounted image; unmounted when dropped.
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

/// How often it is tried to unmount an image.
const LOOKS: u32 = 200;

const NEEDS: &str = "this test makes images (mkfs.ext4 of e2fsprogs, mkfs.btrfs of btrfs-progs) and mounts them on a loop device (mount and \
    umount of util-linux): run it as root, or as a user who may run these by `sudo -n`, that is, without a password";

/// Who runs the test: user and group.
fn who() -> (u32, u32) {
    let me = std::fs::metadata("/proc/self").expect("Linux has /proc");
    (me.uid(), me.gid())
}

fn as_root(program: &str) -> Command {
    if who().0 == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn run(mut command: Command, arguments: &[&OsStr]) {
    let output = command.args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} can't be started ({error}); {NEEDS}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}{NEEDS}");
}

impl Disk {
    /// A fresh one of 256 MiB.
    pub fn make(folder: &Path, system: System) -> Self {
        let image = folder.join("disk.img");
        std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        let (user, group) = who();
        let owner = format!("{user}:{group}");
        match system {
            System::Ext4 => {
                let root_owner = format!("root_owner={owner}");
                run(as_root("mkfs.ext4"), &["-q".as_ref(), "-E".as_ref(), root_owner.as_ref(), image.as_ref()]);
            }
            System::Btrfs => run(as_root("mkfs.btrfs"), &["-q".as_ref(), image.as_ref()]),
        }
        let disk = Self::mount(image, folder.join("disk"));
        run(as_root("chown"), &[owner.as_ref(), disk.mount.as_ref()]);
        disk
    }

    fn mount(image: PathBuf, mount: PathBuf) -> Self {
        std::fs::create_dir_all(&mount).unwrap();
        run(as_root("mount"), &["-o".as_ref(), "loop".as_ref(), image.as_ref(), mount.as_ref()]);
        Self { image, mount }
    }

    pub fn mounted(&self) -> &Path {
        &self.mount
    }

    /// What is on the medium at this moment, mounted elsewhere: the journal is replayed as after a reboot.
    pub fn cut(&self) -> Self {
        let copy = self.image.with_file_name("cut.img");
        run(Command::new("cp"), &["--sparse=always".as_ref(), self.image.as_ref(), copy.as_ref()]);
        Self::mount(copy, self.mount.with_file_name("cut"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Threads that had files of it open may still be about to close them.
        for _ in 0..LOOKS {
            let unmounted = as_root("umount").arg(&self.mount).stderr(Stdio::null()).status();
            // While a test fails there is nothing better to do than to try.
            if !unmounted.is_ok_and(|status| !status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
