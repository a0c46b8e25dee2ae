//! A program's manual page: clap's parts, with all commands on one page.

use std::io::{self, Write};

use clap::Command;
use clap_mangen::Man;

/// The page of a program.
///
/// # Errors
///
/// None that a `Vec` could give.
pub fn manual(program: &Command) -> io::Result<String> {
    let mut page = Vec::new();
    let man = Man::new(program.clone())
        .section("8")
        .manual("vipd")
        .date("");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    commands(program, program.get_name(), &mut page)?;
    let other = match program.get_name() {
        "vipd" => "vipctl",
        _ => "vipd",
    };
    writeln!(
        page,
        ".SH FILES\n.TP\n/etc/vipd/vipd.toml\nThe configuration."
    )?;
    writeln!(
        page,
        ".TP\n/run/vipd/control.sock\nThe daemon's control socket."
    )?;
    writeln!(
        page,
        ".SH \"SEE ALSO\"\n.BR {other} (8),\n.BR vipd.toml (5)"
    )?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn commands(program: &Command, path: &str, page: &mut Vec<u8>) -> io::Result<()> {
    for command in program
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        if command.get_name() == "help" {
            continue;
        }
        let path = format!("{path} {}", command.get_name());
        // What it takes, as the synopsis of a page of its own would say.
        let man = Man::new(
            command
                .clone()
                .bin_name(path.clone())
                .disable_help_flag(true),
        );
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part)?;
        let synopsis = body(&part);
        writeln!(page, ".SS \"{path}\"\n{synopsis}")?;
        let about = command.get_long_about().or(command.get_about());
        if let Some(about) = about {
            writeln!(page, ".PP\n{}", escaped(&about.to_string()))?;
        }
        let mut part = Vec::new();
        man.render_options_section(&mut part)?;
        writeln!(page, "{}", body(&part))?;
        commands(command, &path, page)?;
    }
    Ok(())
}

/// A section without its heading and preamble.
fn body(section: &[u8]) -> String {
    let text = String::from_utf8_lossy(section);
    let lines = text.lines().skip_while(|line| !line.starts_with(".SH"));
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with(".SH")).collect();
    lines.join("\n")
}

/// Text as roff takes it.
pub(crate) fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |line: &str| {
        if line.starts_with(['.', '\'']) {
            format!("\\&{line}")
        } else {
            line.to_owned()
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
