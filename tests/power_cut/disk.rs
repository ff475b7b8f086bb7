//! An ext4 file system on a loop device, and copies of it as a power cut would leave it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A mounted image; unmounted when dropped.
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program} can't be started ({error}): install util-linux and e2fsprogs"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed; this test needs root and a loop device: {said}");
}

impl Disk {
    /// A fresh one of 256 MiB.
    pub fn make(folder: &Path) -> Self {
        let image = folder.join("disk.img");
        std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
        Self::mount(image, folder.join("disk"))
    }

    fn mount(image: PathBuf, mount: PathBuf) -> Self {
        std::fs::create_dir_all(&mount).unwrap();
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), mount.as_ref()]);
        Self { image, mount }
    }

    pub fn mounted(&self) -> &Path {
        &self.mount
    }

    /// What is on the medium at this moment, mounted elsewhere: ext4 replays its journal as after a reboot.
    pub fn cut(&self) -> Self {
        let copy = self.image.with_file_name("cut.img");
        run("cp", &["--sparse=always".as_ref(), self.image.as_ref(), copy.as_ref()]);
        Self::mount(copy, self.mount.with_file_name("cut"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // While a test fails there is nothing better to do than to try.
        drop(Command::new("umount").arg(&self.mount).status());
    }
}
