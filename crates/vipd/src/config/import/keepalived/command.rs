//! Programs: their path, their arguments, and who runs them.

use super::block::Node;
use super::context::Context;
use super::lexer;

/// A program as vipd.toml has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Program {
    pub(super) command: Vec<String>,
    pub(super) user: String,
}

/// The program behind the keyword, and who runs it where that stands behind it.
pub(super) fn read(node: &Node, cx: &mut Context<'_>) -> Option<Program> {
    let command = words(node, cx)?;
    let user = match node.arg(1) {
        Some(user) => {
            group(node, user, node.arg(2), cx);
            user.to_owned()
        }
        None => default_user(node, cx),
    };
    super::lost::extra(node, 3, cx);
    Some(Program { command, user })
}

/// The program and its arguments.
pub(super) fn words(node: &Node, cx: &mut Context<'_>) -> Option<Vec<String>> {
    let Some(word) = node.args().first() else {
        cx.lost(node, "names no program", "add one, or remove the line");
        return None;
    };
    let mut command = lexer::arguments(&lexer::unescaped(&word.raw));
    let Some(program) = command.first_mut() else {
        cx.lost(node, "names no program", "add one, or remove the line");
        return None;
    };
    if !program.starts_with('/') {
        match cx.host.program(program) {
            Some(path) => *program = path.display().to_string(),
            None => {
                let message = format!("{program:?} is no whole path, and not found on this host");
                let help = "write the whole path of a program; there is no shell";
                cx.lost(node, message, help);
            }
        }
    }
    Some(command)
}

/// Who runs programs that say nothing of it: `script_user`, or what keepalived does without.
pub(super) fn default_user(node: &Node, cx: &mut Context<'_>) -> String {
    const SCRIPTS: &str = "keepalived_script";
    if let Some(user) = &cx.globals.script_user {
        return user.clone();
    }
    if cx.host.has_user(SCRIPTS) {
        return SCRIPTS.to_owned();
    }
    if !cx.said_root {
        cx.said_root = true;
        let message = "keepalived runs it as root, so vipd does, too (and the programs below)";
        cx.idle(
            node,
            message,
            "write user = \"nobody\", or one that may do what it does",
        );
    }
    "root".to_owned()
}

/// A group of its own is not possible.
pub(super) fn group(node: &Node, user: &str, group: Option<&str>, cx: &mut Context<'_>) {
    if let Some(group) = group
        && group != user
    {
        let message = format!("programs run in the group of their user, not in {group:?}");
        cx.lost(node, message, "write a user whose group it is");
    }
}
