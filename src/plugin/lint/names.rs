//! Which names a source uses that it did not make itself: globals, with the fields that are read of them and the calls
//! of these. A walk over the statements with a stack of scopes; nothing is built.
//!
//! Luau's compiler has said before that the source is right, so this walk only has to follow what is right. Should it
//! lose its way it stops early: it then sees less, and never makes something up.
//!
//! Size: a grammar in one walk; in pieces its functions would only call each other across files.

use super::tokens::{Kind, Token, tokens};
use std::collections::BTreeSet;
use std::ops::Range;

/// A use of a global.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use<'t> {
    /// Its name.
    pub(super) name: &'t str,
    /// `b` of `a.b`.
    pub(super) field: Option<&'t str>,
    /// Where the name is.
    pub(super) name_span: Range<usize>,
    /// Where the last of the two is.
    pub(super) span: Range<usize>,
    /// The arguments of a call: how many, and whether the last of them can be several.
    pub(super) call: Option<(usize, bool)>,
}

/// A function or value put into a local table: `plugin.on_tick = …`, `function plugin.on_tick()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Put<'t> {
    pub(super) table: &'t str,
    pub(super) field: &'t str,
    pub(super) span: Range<usize>,
}

/// What a source names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names<'t> {
    pub(super) uses: Vec<Use<'t>>,
    pub(super) puts: Vec<Put<'t>>,
    /// Globals that the source makes.
    pub(super) made: Vec<(&'t str, Range<usize>)>,
    /// The local that the file returns.
    pub(super) returned: Option<&'t str>,
}

/// Looks through a source.
pub(super) fn names(text: &str) -> Names<'_> {
    let mut walk = Walk {
        tokens: tokens(text),
        at: 0,
        depth: 0,
        scopes: vec![BTreeSet::new()],
        names: Names::default(),
    };
    while walk.peek().is_some() {
        let before = walk.at;
        walk.block();
        // An `end` too many: not for us to tell.
        if walk.at == before {
            walk.at += 1;
        }
    }
    walk.names
}

/// Statements in statements and values in values; deeper ones are not looked into.
const DEPTH: usize = 150;

struct Walk<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    depth: usize,
    scopes: Vec<BTreeSet<&'t str>>,
    names: Names<'t>,
}

/// What a value ended as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// A call or `...`: it may stand for several values.
    Several,
    One,
}

impl<'t> Walk<'t> {
    fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.at).copied()
    }

    fn ahead(&self, n: usize) -> &'t str {
        self.tokens.get(self.at + n).map_or("", |token| token.text)
    }

    fn is(&self, text: &str) -> bool {
        self.peek().is_some_and(|token| token.kind != Kind::Value && token.text == text)
    }

    fn skip(&mut self, text: &str) -> bool {
        let is = self.is(text);
        self.at += usize::from(is);
        is
    }

    /// A name that is no keyword.
    fn name(&mut self) -> Option<Token<'t>> {
        let token = self.peek().filter(|t| t.kind == Kind::Word && !KEYWORDS.contains(&t.text))?;
        self.at += 1;
        Some(token)
    }

    fn declare(&mut self, name: &'t str) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name);
        }
    }

    fn is_local(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.contains(name))
    }

    fn scoped(&mut self, walk: impl FnOnce(&mut Self)) {
        if self.depth >= DEPTH {
            self.at = self.tokens.len();
            return;
        }
        self.depth += 1;
        self.scopes.push(BTreeSet::new());
        walk(self);
        self.scopes.pop();
        self.depth -= 1;
    }

    fn block(&mut self) {
        while let Some(token) = self.peek() {
            if token.kind == Kind::Word && ENDS.contains(&token.text) {
                return;
            }
            let before = self.at;
            self.statement();
            // What is not understood is passed over.
            self.at += usize::from(self.at == before);
        }
    }

    fn statement(&mut self) {
        let Some(token) = self.peek() else { return };
        let word = if token.kind == Kind::Word { token.text } else { "" };
        match word {
            "if" => self.branch(),
            "while" => {
                self.at += 1;
                self.value();
                self.body("do");
            }
            "do" => self.body("do"),
            "for" => self.looped(),
            "repeat" => {
                self.at += 1;
                self.scoped(|walk| {
                    walk.block();
                    walk.skip("until");
                    walk.value();
                });
            }
            "function" => self.named_function(),
            "local" => self.local(),
            "return" => self.returned(),
            "break" => self.at += 1,
            "continue" if !matches!(self.ahead(1), "=" | "(" | "." | "[" | ":" | ",") => self.at += 1,
            "export" | "type" if self.is_type_statement() => self.type_statement(),
            "" if token.text == ";" => self.at += 1,
            "" if token.text == "@" => self.at += 2,
            _ => self.assignment(),
        }
    }

    fn body(&mut self, begin: &str) {
        self.skip(begin);
        self.scoped(Self::block);
        self.skip("end");
    }

    fn branch(&mut self) {
        while self.skip("if") || self.skip("elseif") {
            self.value();
            self.skip("then");
            self.scoped(Self::block);
        }
        if self.skip("else") {
            self.scoped(Self::block);
        }
        self.skip("end");
    }

    fn looped(&mut self) {
        self.at += 1;
        let mut names = self.bindings();
        if !self.skip("=") {
            self.skip("in");
        }
        self.values();
        self.skip("do");
        self.scoped(|walk| {
            names.drain(..).for_each(|name| walk.declare(name));
            walk.block();
        });
        self.skip("end");
    }

    /// Names with their types, up to what follows.
    fn bindings(&mut self) -> Vec<&'t str> {
        let mut names = Vec::new();
        while let Some(name) = self.name() {
            names.push(name.text);
            if self.skip(":") {
                self.kind();
            }
            if !self.skip(",") {
                break;
            }
        }
        names
    }

    fn named_function(&mut self) {
        self.at += 1;
        let Some(first) = self.name() else { return };
        let mut method = false;
        if self.is(".") || self.is(":") {
            let single = self.ahead(2) == "(" || self.ahead(2) == "<";
            let field = self.tokens.get(self.at + 1).copied();
            if let Some(field) = field.filter(|_| single) {
                self.names.puts.push(Put { table: first.text, field: field.text, span: field.span() });
            }
            if !self.is_local(first.text) {
                self.used(first, None, None);
            }
        } else if !self.is_local(first.text) {
            self.names.made.push((first.text, first.span()));
        }
        while self.is(".") || self.is(":") {
            method = self.is(":");
            self.at += 2;
        }
        self.function(method);
    }

    /// Parameters, result, body, `end`.
    fn function(&mut self, method: bool) {
        self.generics();
        self.skip("(");
        let mut names = if method { vec!["self"] } else { Vec::new() };
        names.extend(self.bindings());
        if self.skip("...") && self.skip(":") {
            self.kind();
        }
        self.skip(")");
        if self.skip(":") {
            self.kind();
        }
        self.scoped(|walk| {
            names.drain(..).for_each(|name| walk.declare(name));
            walk.block();
        });
        self.skip("end");
    }

    fn local(&mut self) {
        self.at += 1;
        if self.skip("function") {
            if let Some(name) = self.name() {
                self.declare(name.text);
            }
            return self.function(false);
        }
        let names = self.bindings();
        if self.skip("=") {
            self.values();
        }
        names.into_iter().for_each(|name| self.declare(name));
    }

    fn returned(&mut self) {
        self.at += 1;
        if self.scopes.len() == 1
            && let Some(token) = self.peek().filter(|t| t.kind == Kind::Word && self.is_local(t.text))
        {
            self.names.returned = Some(token.text);
        }
        let ends =
            self.peek().is_none_or(|t| t.text == ";" || (t.kind == Kind::Word && ENDS.contains(&t.text)));
        if !ends {
            self.values();
        }
        self.skip(";");
    }

    /// `type` is a name like any other unless a name follows.
    fn is_type_statement(&self) -> bool {
        let next = usize::from(self.is("export"));
        let named = |n: usize| self.tokens.get(self.at + n).is_some_and(|t| t.kind == Kind::Word);
        self.ahead(next) == "type" && named(next + 1)
    }

    fn type_statement(&mut self) {
        self.skip("export");
        self.skip("type");
        if self.skip("function") {
            self.name();
            return self.function(false);
        }
        self.name();
        self.generics();
        if self.skip("=") {
            self.kind();
        }
    }

    /// A call, or values for names and fields.
    fn assignment(&mut self) {
        let mut targets = Vec::new();
        loop {
            let from = self.at;
            let uses = self.names.uses.len();
            self.suffixed();
            targets.push((from, self.at, uses));
            if !self.skip(",") {
                break;
            }
        }
        let compound =
            ["+=", "-=", "*=", "/=", "//=", "%=", "^=", "..="].into_iter().any(|sign| self.is(sign));
        let assigns = self.is("=");
        if !assigns && !compound {
            return;
        }
        self.at += 1;
        for (from, to, uses) in targets.into_iter().rev().filter(|_| assigns) {
            let tokens: Vec<Token<'t>> = self.tokens.get(from..to).unwrap_or_default().to_vec();
            match tokens.as_slice() {
                [name] if !self.is_local(name.text) => {
                    // It is made here, not used.
                    if uses < self.names.uses.len() {
                        self.names.uses.remove(uses);
                    }
                    self.names.made.push((name.text, name.span()));
                }
                [table, dot, field] if dot.text == "." => {
                    self.names.puts.push(Put { table: table.text, field: field.text, span: field.span() });
                }
                _ => {}
            }
        }
        self.values();
    }

    /// Values with commas between them: how many, and what the last ended as.
    fn values(&mut self) -> (usize, Ended) {
        let mut count = 1;
        let mut ended = self.value();
        while self.skip(",") {
            count += 1;
            ended = self.value();
        }
        (count, ended)
    }

    fn value(&mut self) -> Ended {
        if self.depth >= DEPTH {
            self.at = self.tokens.len();
            return Ended::One;
        }
        self.depth += 1;
        let mut ended = self.operand();
        while let Some(token) = self.peek() {
            if token.kind == Kind::Value || !BINARY.contains(&token.text) {
                break;
            }
            self.at += 1;
            self.operand();
            ended = Ended::One;
        }
        self.depth -= 1;
        ended
    }

    fn operand(&mut self) -> Ended {
        let mut ended = None;
        while self.is("not") || self.is("-") || self.is("#") {
            self.at += 1;
            ended = Some(Ended::One);
        }
        let Some(token) = self.peek() else { return Ended::One };
        let simple = match token.text {
            _ if token.kind == Kind::Value => self.constant(),
            "nil" | "true" | "false" => self.constant(),
            "..." => {
                self.at += 1;
                Ended::Several
            }
            "{" => self.table(),
            "function" => {
                self.at += 1;
                self.function(false);
                Ended::One
            }
            "if" => self.choice(),
            _ => self.suffixed(),
        };
        while self.skip("::") {
            self.kind();
            ended = Some(Ended::One);
        }
        ended.unwrap_or(simple)
    }

    fn constant(&mut self) -> Ended {
        self.at += 1;
        Ended::One
    }

    /// `if a then b else c` as a value.
    fn choice(&mut self) -> Ended {
        while self.skip("if") || self.skip("elseif") {
            self.value();
            self.skip("then");
            self.value();
        }
        self.skip("else");
        self.value();
        Ended::One
    }

    fn table(&mut self) -> Ended {
        self.skip("{");
        while self.peek().is_some() && !self.is("}") {
            let before = self.at;
            if self.skip("[") {
                self.value();
                self.skip("]");
                self.skip("=");
            } else if self.ahead(1) == "=" && self.peek().is_some_and(|t| t.kind == Kind::Word) {
                self.at += 2;
            }
            self.value();
            if !self.skip(",") {
                self.skip(";");
            }
            self.at += usize::from(self.at == before);
        }
        self.skip("}");
        Ended::One
    }

    /// A name or a value in parentheses, with fields and calls behind it.
    fn suffixed(&mut self) -> Ended {
        let mut global = None;
        if self.skip("(") {
            self.value();
            self.skip(")");
        } else if let Some(name) = self.name() {
            global = Some(name).filter(|name| !self.is_local(name.text));
        } else {
            return Ended::One;
        }
        let mut field = None;
        if global.is_some() && self.is(".") {
            field = self.tokens.get(self.at + 1).copied();
            self.at += 2;
        }
        let place = global.map(|name| {
            self.used(name, field, None);
            self.names.uses.len() - 1
        });
        let mut ended = Ended::One;
        let mut first = true;
        while let Some(token) = self.peek() {
            if token.kind == Kind::Value {
                if token.text.starts_with(|c: char| c.is_ascii_digit()) {
                    break;
                }
                self.at += 1;
                self.called(place.filter(|_| first), (1, false));
                ended = Ended::Several;
            } else {
                match token.text {
                    "." => {
                        self.at += 2;
                        ended = Ended::One;
                    }
                    "[" => {
                        self.at += 1;
                        self.value();
                        self.skip("]");
                        ended = Ended::One;
                    }
                    ":" => {
                        self.at += 2;
                        first = false;
                        continue;
                    }
                    "{" => {
                        self.table();
                        self.called(place.filter(|_| first), (1, false));
                        ended = Ended::Several;
                    }
                    "(" => {
                        let call = self.arguments();
                        self.called(place.filter(|_| first), call);
                        ended = Ended::Several;
                    }
                    _ => break,
                }
            }
            first = false;
        }
        ended
    }

    fn arguments(&mut self) -> (usize, bool) {
        self.skip("(");
        if self.skip(")") {
            return (0, false);
        }
        let (count, ended) = self.values();
        self.skip(")");
        (count, ended == Ended::Several)
    }

    fn used(&mut self, name: Token<'t>, field: Option<Token<'t>>, call: Option<(usize, bool)>) {
        let span = field.map_or_else(|| name.span(), |field| field.span());
        self.names.uses.push(Use {
            name: name.text,
            field: field.map(|field| field.text),
            name_span: name.span(),
            span,
            call,
        });
    }

    fn called(&mut self, place: Option<usize>, call: (usize, bool)) {
        if let Some(at) = place.and_then(|place| self.names.uses.get_mut(place)) {
            at.call = Some(call);
        }
    }

    fn generics(&mut self) {
        if self.is("<") {
            let mut depth = 0_usize;
            while let Some(token) = self.peek() {
                depth += usize::from(token.text == "<");
                self.at += 1;
                if token.text == ">" {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
            }
        }
    }

    /// A type: passed over.
    fn kind(&mut self) {
        self.skip("|");
        self.skip("&");
        loop {
            self.one_kind();
            if !(self.skip("|") || self.skip("&")) {
                return;
            }
        }
    }

    fn one_kind(&mut self) {
        self.generics();
        match self.peek() {
            Some(token) if token.kind == Kind::Value => self.at += 1,
            Some(token) if token.text == "{" => self.pair("{", "}"),
            Some(token) if token.text == "(" => self.pair("(", ")"),
            Some(token) if token.text == "..." => {
                self.at += 1;
                return self.one_kind();
            }
            Some(token) if token.kind == Kind::Word && !ENDS.contains(&token.text) => {
                self.at += 1;
                if token.text == "typeof" {
                    self.pair("(", ")");
                }
                while self.skip(".") {
                    self.at += 1;
                }
                self.generics();
                self.skip("...");
            }
            Some(_) | None => return,
        }
        while self.skip("?") {}
        if self.skip("->") {
            self.kind();
        }
    }

    fn pair(&mut self, open: &str, close: &str) {
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            if token.kind == Kind::Sign {
                depth += usize::from(token.text == open);
                depth -= usize::from(token.text == close && depth > 0);
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }
}

/// Words that are never names.
const KEYWORDS: [&str; 21] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while",
];
/// Words that end a block.
const ENDS: [&str; 4] = ["end", "else", "elseif", "until"];
const BINARY: [&str; 17] =
    ["+", "-", "*", "/", "//", "%", "^", "..", "==", "~=", "<", "<=", ">", ">=", "and", "or", "~"];

#[cfg(test)]
mod tests {
    use super::*;

    fn globals(text: &str) -> Vec<String> {
        let dotted = |one: &Use<'_>| {
            let field = one.field.map_or_else(String::new, |field| format!(".{field}"));
            let call = one
                .call
                .map_or_else(String::new, |(n, open)| format!("({n}{})", if open { "+" } else { "" }));
            format!("{}{field}{call}", one.name)
        };
        names(text).uses.iter().map(dotted).collect()
    }

    #[test]
    fn locals_parameters_and_loops_are_no_globals() {
        let text = "local a, b: number = 1, x\nlocal function f(c: string, ...: any): (number, string?)\n\
                    return c, a, f(...) end\nfor i, v in pairs({}) do g(i, v) end\nfor n = 1, 2 do h(n) end\nreturn i";
        assert_eq!(globals(text), ["x", "pairs(1)", "g(2)", "h(1)", "i"]);
    }

    #[test]
    fn calls_are_counted_with_their_arguments() {
        let text = "packet.u8(b, 1) packet.find(b, n, f()) lanrage.send{ to_port = 1 } print\"x\" lanrage.now() g((f()))\n\
                    local y = string.rep(\"a\", 3):upper()";
        assert_eq!(
            globals(text),
            [
                "packet.u8(2)",
                "b",
                "packet.find(3+)",
                "b",
                "n",
                "f(0)",
                "lanrage.send(1)",
                "print(1)",
                "lanrage.now(0)",
                "g(1)",
                "f(0)",
                "string.rep(2)"
            ]
        );
    }

    #[test]
    fn types_choices_and_filled_texts_do_not_confuse_it() {
        let text = "type T = { [string]: number } | (number, T?) -> ...any\nexport type U<A> = typeof(z) & A\n\
                    local x: T? = if p then q else `{r} {s(`{t}`)}`\nlocal type = 1\ntype = 2\n\
                    local m = x :: number\nlocal t = { u, v = w, [y] = 1; \"k\" }\nif x then x += 1 end\nrepeat local d = 1 until d";
        assert_eq!(globals(text), ["p", "q", "r", "s(1)", "t", "u", "w", "y"]);
    }

    #[test]
    fn hooks_and_made_globals_are_seen() {
        let found = names(
            "local plugin = {}\nfunction plugin.on_tick() end\nplugin.on_anser = function() end\ncount = 1\n\
             function helper() end\nplugin.a.b = 1\nreturn plugin",
        );
        let puts: Vec<_> = found.puts.iter().map(|put| put.field).collect();
        assert_eq!(puts, ["on_tick", "on_anser"]);
        let made: Vec<_> = found.made.iter().map(|(name, _)| *name).collect();
        assert_eq!((made, found.returned, found.uses.len()), (vec!["count", "helper"], Some("plugin"), 0));
    }

    #[test]
    fn nonsense_ends() {
        for text in [
            "end end", "((((((", "function", "local", "if if if", "{{{{", "<<<<", "a.b.", "for", "repeat",
            "::::", "f(", "x = ",
        ] {
            let _ = names(text);
            let _ = names(&text.repeat(200));
        }
    }
}
