//! Power cuts, on Linux, as root or with `sudo -n`: ext4 and btrfs on a loop device, the writer stopped at a random moment, the image copied without what the
//! page cache of the mounted file system still holds, the copy mounted and checked. Every receipt that was printed must be there.
//!
//! A control writes the same rows with `synchronous=NORMAL`: if it loses none, the run could not have caught anything, and is void.
//!
//! `STORAGE_SYNC_CUTS` (default 20) and `STORAGE_SYNC_SEED` make a longer run, or the same one again.
#![cfg(target_os = "linux")]

mod disk;
mod writer;

use std::time::SystemTime;

use disk::{Disk, System};
use writer::{IS_FILE, Mode, Writer};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// One cut: answers how many receipts were printed, how many of them of files, and how many are gone.
async fn cut(disk: &Disk, mode: Mode, receipts: usize) -> (usize, usize, usize) {
    let folder = disk.mounted().join(format!("{mode:?}"));
    let mut writer = Writer::start(&folder, mode);
    let mut promised = Vec::new();
    while let Some(receipt) = writer.line() {
        // Right after the receipt of a file: what the next one syncs would do for this one too.
        let here = mode == Mode::Normal || receipt.starts_with(IS_FILE);
        promised.push(receipt);
        if promised.len() >= receipts && here {
            break;
        }
    }
    writer.stop();
    let copy = disk.cut();
    writer.kill();
    // Printed before the process stood still, read after it: promised all the same.
    promised.extend(std::iter::from_fn(|| writer.line()));
    let lost = writer::missing(&copy.mounted().join(format!("{mode:?}")), mode, &promised).await;
    std::fs::remove_dir_all(&folder).unwrap();
    (promised.len(), promised.iter().filter(|id| id.starts_with(IS_FILE)).count(), lost)
}

/// So many cuts of one disk.
async fn nothing_is_lost(system: System, cuts: u64) {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("STORAGE_SYNC_SEED", now | 1);
    println!("{cuts} power cuts of {system:?}, STORAGE_SYNC_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::make(folder.path(), system);
    let (mut promised, mut files, mut lost, mut control) = (0, 0, 0, 0);
    let mut state = seed;
    for _ in 0..cuts {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let receipts = 50 + (state >> 33) as usize % 1500;
        let (printed, of_files, missing) = cut(&disk, Mode::Full, receipts).await;
        promised += printed;
        files += of_files;
        lost += missing;
        control += cut(&disk, Mode::Normal, receipts).await.2;
    }
    println!(
        "{cuts} cuts, {promised} receipts, {files} of them of files, {lost} lost; the control with synchronous=NORMAL lost {control}"
    );
    assert!(control > 0, "the run is void: the control lost nothing, so the cut cuts nothing");
    assert!(files > 0, "the run is void for files: none had its receipt");
    assert_eq!(lost, 0);
}

#[tokio::test]
async fn no_entry_whose_receipt_was_given_is_lost_by_a_power_cut() {
    if !writer::is_child() {
        nothing_is_lost(System::Ext4, number("STORAGE_SYNC_CUTS", 20)).await;
    }
}

/// Where what is synced takes nothing else along: the folder that a file got its name in has to be synced too.
#[tokio::test]
async fn no_file_whose_receipt_was_given_loses_its_name_by_a_power_cut() {
    if !writer::is_child() {
        nothing_is_lost(System::Btrfs, number("STORAGE_SYNC_CUTS", 20).div_ceil(2)).await;
    }
}
