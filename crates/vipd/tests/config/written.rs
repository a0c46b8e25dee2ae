//! Files that are read while somebody writes them.

use std::fs;
use std::path::PathBuf;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use vipd::config::{Config, LoadError};

const TEXT: &str = "[global]\nname = \"lb1\"\n";

#[test]
fn a_file_that_is_written_in_place_is_waited_for() {
    let file = File::new("slow");
    fs::write(&file.0, "").unwrap();
    let writer = file.written_later();
    assert_eq!(read(&file).unwrap(), TEXT);
    writer.join().unwrap();
}

#[test]
fn an_empty_file_is_no_configuration_to_change_to() {
    let file = File::new("empty");
    fs::write(&file.0, "").unwrap();
    let error = read(&file).unwrap_err().to_string();
    assert!(error.contains("the file is empty"), "{error}");
    fs::write(&file.0, "# nothing\n").unwrap();
    assert_eq!(read(&file).unwrap(), "# nothing\n");
}

#[test]
fn what_is_wrong_in_half_of_a_file_is_not_told() {
    let file = File::new("half");
    fs::write(&file.0, "[global]\nname = \"lb").unwrap();
    let writer = file.written_later();
    assert_eq!(read(&file).unwrap(), TEXT);
    writer.join().unwrap();
    fs::write(&file.0, "[global]\nname = 1").unwrap();
    let error = read(&file).unwrap_err().to_string();
    assert!(error.contains("must be a string"), "{error}");
}

#[test]
fn a_change_that_leaves_length_and_time_as_they_were_is_seen() {
    let file = File::new("tick");
    fs::write(&file.0, TEXT.replace("lb1", "lb2")).unwrap();
    let before = fs::metadata(&file.0).unwrap().modified().unwrap();
    let writer = spawn({
        let path = file.0.clone();
        move || {
            sleep(Duration::from_millis(25));
            fs::write(&path, TEXT).unwrap();
            let written = fs::File::options().write(true).open(path).unwrap();
            written.set_modified(before).unwrap();
        }
    });
    assert_eq!(read(&file).unwrap(), TEXT);
    writer.join().unwrap();
}

fn read(file: &File) -> Result<String, LoadError> {
    Config::load_written(&file.0, "vipd.toml").map(|(text, _)| text)
}

/// Gone at the end of the test.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        let name = format!("vipd-written-{name}-{}.toml", std::process::id());
        File(std::env::temp_dir().join(name))
    }

    fn written_later(&self) -> JoinHandle<()> {
        let path = self.0.clone();
        spawn(move || {
            sleep(Duration::from_millis(25));
            fs::write(path, TEXT).unwrap();
        })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
