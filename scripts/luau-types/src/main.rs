//! `luau-types FILE…`: checks Luau files, all of them in strict mode. Files that end in `.d.luau` define what the others see.
//!
//! Prints one line per mistake, `file:line:column: what`, and ends with 1 if there was any, with 2 if it could not check.
//! Lints count as mistakes. `require("./name")` is looked up beside the file that asks.

use luau_analysis::frontend::resolver::ModuleInfo;
use luau_analysis::{
    ConfigResolver, DefinitionEnvironment, FileResolver, Frontend, FrontendOptions, ModuleName,
    NullConfigResolver, SourceCode, SourceCodeType, TypeCheckLimits,
};
use luau_common::BString;
use luau_config::{Config, Mode};
use luau_syntax::ast::{Expression, ExpressionKind};
use luau_syntax::location::Location;
use std::path::Path;
use std::process::ExitCode;

struct Disk;

impl FileResolver for Disk {
    fn read_source(&mut self, name: &ModuleName) -> Option<SourceCode> {
        let source = std::fs::read(name.to_string()).ok()?;
        Some(SourceCode { source: source.into(), kind: SourceCodeType::Module })
    }

    fn resolve_module(
        &mut self,
        context: Option<&ModuleInfo>,
        asked: Expression<'_>,
        _limits: &TypeCheckLimits,
    ) -> Option<ModuleInfo> {
        let ExpressionKind::String { value, .. } = asked.kind() else { return None };
        let asked = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let from = context?.name.to_string();
        let beside = Path::new(&from).parent()?.join(asked.strip_prefix("./").unwrap_or(&asked));
        let found =
            ["luau", "lua"].map(|end| beside.with_extension(end)).into_iter().find(|file| file.is_file())?;
        Some(ModuleInfo { name: found.to_str()?.into(), optional: false })
    }
}

fn main() -> ExitCode {
    let (definitions, files): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|file| file.ends_with(".d.luau"));
    match check(&definitions, &files) {
        Ok(mistakes) => {
            for mistake in &mistakes {
                println!("{mistake}");
            }
            println!("{} Luau files, {} mistakes", files.len(), mistakes.len());
            ExitCode::from(u8::from(!mistakes.is_empty()))
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

fn check(definitions: &[String], files: &[String]) -> Result<Vec<String>, String> {
    if files.is_empty() {
        return Err("usage: luau-types [NAME.d.luau...] FILE...".into());
    }
    let mut strict = NullConfigResolver { default_config: Config::default() };
    strict.default_config.mode = Mode::Strict;
    let options = FrontendOptions {
        retain_full_type_graphs: true,
        run_lint_checks: true,
        ..FrontendOptions::default()
    };
    let mut frontend = Frontend::new(Disk, strict, options);
    frontend.register_builtin_globals(DefinitionEnvironment::Globals).map_err(|e| e.to_string())?;
    let mut mistakes = Vec::new();
    for file in definitions {
        mistakes.extend(define(&mut frontend, file)?);
    }
    for file in files {
        let name = BString::from(file.as_str());
        if !Path::new(file).is_file() {
            return Err(format!("{file} is not there"));
        }
        let result = frontend.check(&name, None).map_err(|e| format!("{file}: {e}"))?;
        if !result.timeout_hits.is_empty() {
            return Err(format!("{file}: gave up after too long"));
        }
        let model = frontend.semantic_model(&name);
        let found = result.errors.iter().map(|e| {
            let text = model.as_ref().map_or_else(String::new, |model| model.error_message(e).to_string());
            told(&e.module_name.to_string(), e.location, &text)
        });
        let lints = result.lint_result.errors.iter().chain(&result.lint_result.warnings);
        let lints = lints.map(|lint| told(file, lint.location, &lint.text.to_string()));
        mistakes.extend(found.chain(lints));
    }
    mistakes.sort();
    mistakes.dedup();
    Ok(mistakes)
}

/// Makes the definitions known to all files.
fn define<C: ConfigResolver>(frontend: &mut Frontend<Disk, C>, file: &str) -> Result<Vec<String>, String> {
    let source = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
    let scope = frontend.global_scope(DefinitionEnvironment::Globals);
    let loaded =
        frontend.load_definition_file(scope, source, file, false).map_err(|e| format!("{file}: {e}"))?;
    let parsing =
        loaded.source_module.parse_errors.iter().map(|e| told(file, e.location, &e.message.to_string()));
    let mut mistakes: Vec<String> = parsing.collect();
    if let (Some(module), Some(model)) = (loaded.module(), loaded.semantic_model(frontend)) {
        mistakes.extend(
            module.errors().iter().map(|e| told(file, e.location, &model.error_message(e).to_string())),
        );
    }
    if !loaded.success && mistakes.is_empty() {
        mistakes.push(format!("{file}: cannot be used as definitions"));
    }
    Ok(mistakes)
}

fn told(file: &str, at: Location, what: &str) -> String {
    format!("{file}:{}:{}: {}", at.begin.line + 1, at.begin.column + 1, what.replace('\n', " "))
}
