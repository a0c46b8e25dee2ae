//! Files that are read while somebody writes them.

use std::fs;
use std::path::PathBuf;
use std::thread::{sleep, spawn};
use std::time::Duration;

use vipd::config::{Config, LoadError};

const TEXT: &str = "[global]\nname = \"lb1\"\n";

#[test]
fn a_file_that_is_written_in_place_is_waited_for() {
    let file = File::new("slow");
    fs::write(&file.0, "").unwrap();
    let writer = spawn({
        let path = file.0.clone();
        move || {
            sleep(Duration::from_millis(25));
            fs::write(path, TEXT).unwrap();
        }
    });
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
    let writer = spawn({
        let path = file.0.clone();
        move || {
            sleep(Duration::from_millis(25));
            fs::write(path, TEXT).unwrap();
        }
    });
    assert_eq!(read(&file).unwrap(), TEXT);
    writer.join().unwrap();
    fs::write(&file.0, "[global]\nname = 1").unwrap();
    let error = read(&file).unwrap_err().to_string();
    assert!(error.contains("must be a string"), "{error}");
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
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
