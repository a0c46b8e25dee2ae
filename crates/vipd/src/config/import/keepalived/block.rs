//! The blocks of a file: statements, some of which have others within braces.

use super::super::notes::{Notes, Place};
use super::expand::Line;
use super::lexer::{self, Token};

/// Blocks within blocks.
const DEPTH_MAX: usize = 16;
/// What of the words of a block names it in a problem, characters.
const LABEL_MAX: usize = 48;

/// A statement: words, and what stands in its braces.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// What problems call it: `vrrp_instance web.authentication`.
    pub(super) path: String,
    /// At least one.
    pub(super) words: Vec<Word>,
    /// Whether it has braces.
    pub(super) block: bool,
    pub(super) children: Vec<Node>,
}

/// A word.
#[derive(Debug, Clone, Default)]
pub(super) struct Word {
    /// Without double quotes.
    pub(super) text: String,
    /// As it is written.
    pub(super) raw: String,
    pub(super) place: Place,
}

impl Node {
    /// Its first word.
    pub(super) fn keyword(&self) -> &str {
        self.words.first().map_or("", |word| word.text.as_str())
    }

    /// The others.
    pub(super) fn args(&self) -> &[Word] {
        self.words.get(1..).unwrap_or_default()
    }

    /// One of the others, from 0.
    pub(super) fn arg(&self, number: usize) -> Option<&str> {
        self.args().get(number).map(|word| word.text.as_str())
    }

    pub(super) fn place(&self) -> Place {
        self.words
            .first()
            .map(|word| word.place.clone())
            .unwrap_or_default()
    }

    /// What stands in its braces under that keyword.
    pub(super) fn all<'n>(&'n self, keyword: &'n str) -> impl Iterator<Item = &'n Node> {
        self.children
            .iter()
            .filter(move |child| child.keyword() == keyword)
    }

    /// The last of them, which counts where keepalived takes one.
    pub(super) fn last<'n>(&'n self, keyword: &'n str) -> Option<&'n Node> {
        self.all(keyword).last()
    }

    pub(super) fn has(&self, keyword: &str) -> bool {
        self.children.iter().any(|child| child.keyword() == keyword)
    }
}

/// The statements of a file.
pub(super) fn tree(lines: &[Line], notes: &mut Notes) -> Vec<Node> {
    let mut builder = Builder {
        open: vec![Node::default()],
        notes,
    };
    for line in lines {
        builder.line(line);
    }
    while builder.open.len() > 1 {
        if let Some(node) = builder.open.last()
            && builder.open.len() <= DEPTH_MAX
        {
            let (place, path) = (node.place(), node.path.clone());
            builder
                .notes
                .lost(&place, &path, "is never closed", "add a }");
        }
        builder.close();
    }
    builder
        .open
        .pop()
        .map(|root| root.children)
        .unwrap_or_default()
}

struct Builder<'n> {
    /// The blocks that are open; the first stands for the file.
    open: Vec<Node>,
    notes: &'n mut Notes,
}

impl Builder<'_> {
    fn line(&mut self, line: &Line) {
        let (tokens, unfinished) = lexer::tokens(&line.text);
        if unfinished {
            let help = "add the other one";
            self.notes
                .lost(&line.place, "", "a quote is not closed on this line", help);
        }
        let mut words: Vec<Word> = Vec::new();
        for token in tokens {
            match token {
                Token::Word(range) => {
                    let raw = line.text.get(range.clone()).unwrap_or_default();
                    let start = line.place.span.start;
                    let place = if line.verbatim {
                        Place {
                            file: line.place.file,
                            span: start.saturating_add(range.start)
                                ..start.saturating_add(range.end),
                        }
                    } else {
                        line.place.clone()
                    };
                    words.push(Word {
                        text: lexer::plain(raw),
                        raw: raw.to_owned(),
                        place,
                    });
                }
                Token::Open(_) => {
                    let words = std::mem::take(&mut words);
                    self.open_block(words, line);
                }
                Token::Close(_) => {
                    self.statement(std::mem::take(&mut words));
                    if self.open.len() > 1 {
                        self.close();
                    } else {
                        let message = "a } without its {";
                        self.notes.lost(&line.place, "", message, "remove it");
                    }
                }
            }
        }
        self.statement(words);
    }

    fn statement(&mut self, words: Vec<Word>) {
        if words.is_empty() {
            return;
        }
        let node = self.node(words, false);
        if let Some(parent) = self.open.last_mut() {
            parent.children.push(node);
        }
    }

    fn open_block(&mut self, words: Vec<Word>, line: &Line) {
        let node = if words.is_empty() {
            // The brace stands on a line of its own.
            let last = self
                .open
                .last_mut()
                .and_then(|parent| parent.children.pop());
            match last {
                Some(node) if !node.block => self.node(node.words, true),
                other => {
                    if let (Some(parent), Some(node)) = (self.open.last_mut(), other) {
                        parent.children.push(node);
                    }
                    let message = "a { that belongs to nothing";
                    let help = "what stands in it is left out";
                    self.notes.lost(&line.place, "", message, help);
                    Node {
                        block: true,
                        words: vec![Word {
                            place: line.place.clone(),
                            ..Word::default()
                        }],
                        ..Node::default()
                    }
                }
            }
        } else {
            self.node(words, true)
        };
        if self.open.len() == DEPTH_MAX {
            let message = "blocks within blocks within blocks";
            self.notes
                .lost(&line.place, "", message, "keepalived knows no such thing");
        }
        self.open.push(node);
    }

    fn node(&self, words: Vec<Word>, block: bool) -> Node {
        let parent = self.open.last().map_or("", |parent| parent.path.as_str());
        let taken = if block { words.len() } else { 1 };
        let label: Vec<&str> = words
            .iter()
            .take(taken)
            .map(|word| word.text.as_str())
            .collect();
        let label: String = label.join(" ").chars().take(LABEL_MAX).collect();
        if self.open.len() > DEPTH_MAX {
            return Node {
                path: parent.to_owned(),
                words,
                block,
                children: Vec::new(),
            };
        }
        let dot = if parent.is_empty() { "" } else { "." };
        Node {
            path: format!("{parent}{dot}{label}"),
            words,
            block,
            children: Vec::new(),
        }
    }

    fn close(&mut self) {
        let Some(node) = self.open.pop() else { return };
        // Deeper ones are reported, and belong to nothing.
        if self.open.len() > DEPTH_MAX || node.keyword().is_empty() {
            return;
        }
        if let Some(parent) = self.open.last_mut() {
            parent.children.push(node);
        }
    }
}
