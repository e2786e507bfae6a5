//! No circle of imports: among the children of a folder of `src`, files or folders, each can be read before those that
//! use it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::fold::{self, Fold};

/// A path from the root of the crate, such as `engine::llama::Vocab`.
type Names = Vec<String>;

/// What one file names of the crate.
#[derive(Default)]
struct Uses {
    /// The module of the file, with those that are written inside the file while they are read.
    inside: Names,
    /// Paths from the root.
    named: BTreeSet<Names>,
    /// What the module gives on: a name, and the path that it stands for.
    given_on: BTreeMap<Names, Names>,
}

impl Uses {
    fn of(module: Names, source: &str) -> Self {
        let file = syn::parse_file(source).unwrap_or_else(|e| panic!("{}: {e}", module.join("::")));
        let mut uses = Self { inside: module, ..Self::default() };
        uses.fold_file(file);
        uses
    }

    /// The path from the root that `path` is here; `None` where it leads out of the crate, or down from here.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                let above = &self.inside[..self.inside.len().checked_sub(ups)?];
                Some([above, &path[ups..]].concat())
            }
            _ => None,
        }
    }

    fn read_use(&mut self, tree: &syn::UseTree, before: &[String], is_public: bool) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.read_use(&path.tree, &with(&path.ident), is_public),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.read_use(tree, before, is_public)),
            syn::UseTree::Glob(_) => self.named.extend(self.absolute(before)),
            syn::UseTree::Name(name) => self.import(with(&name.ident), &name.ident, is_public),
            syn::UseTree::Rename(name) => self.import(with(&name.ident), &name.rename, is_public),
        }
    }

    fn import(&mut self, mut path: Names, name: &syn::Ident, is_public: bool) {
        let is_self = path.last().is_some_and(|last| last == "self");
        path.truncate(path.len() - usize::from(is_self));
        let absolute = self.absolute(&path);
        if is_public {
            let of_child =
                || [self.inside.as_slice(), path.strip_prefix(&["self".to_owned()]).unwrap_or(&path)].concat();
            let target = absolute.clone().unwrap_or_else(of_child);
            self.given_on.insert([self.inside.as_slice(), &[name.to_string()]].concat(), target);
        }
        self.named.extend(absolute);
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    let is_test = |list: &syn::MetaList| list.path.is_ident("cfg") && list.tokens.to_string().contains("test");
    attributes.iter().any(|attribute| attribute.meta.require_list().is_ok_and(is_test))
}

impl Fold for Uses {
    fn fold_item(&mut self, item: syn::Item) -> syn::Item {
        match item {
            syn::Item::Mod(module) if is_test(&module.attrs) => syn::Item::Mod(module),
            syn::Item::Use(item) if !is_test(&item.attrs) => {
                self.read_use(&item.tree, &[], !matches!(item.vis, syn::Visibility::Inherited));
                syn::Item::Use(item)
            }
            item => fold::fold_item(self, item),
        }
    }

    fn fold_item_mod(&mut self, module: syn::ItemMod) -> syn::ItemMod {
        self.inside.push(module.ident.to_string());
        let module = fold::fold_item_mod(self, module);
        self.inside.pop();
        module
    }

    fn fold_path(&mut self, path: syn::Path) -> syn::Path {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.named.extend(self.absolute(&names));
        fold::fold_path(self, path)
    }
}

/// All modules of a crate, with what their files name.
struct Modules(BTreeMap<Names, Uses>);

impl Modules {
    fn read(folder: &Path) -> Self {
        let mut files = Vec::new();
        sources(folder, &mut files);
        let read = |path: PathBuf| {
            let within = path.strip_prefix(folder).expect("within the folder").with_extension("");
            let mut module: Names = within.iter().map(|name| name.to_string_lossy().into_owned()).collect();
            module.pop_if(|last| matches!(last.as_str(), "mod" | "lib"));
            let source = std::fs::read_to_string(&path).expect("UTF-8");
            (module.clone(), Uses::of(module, &source))
        };
        Self(files.into_iter().map(read).collect())
    }

    /// The module in which what a path names is written: names that a module only gives on are followed.
    fn home(&self, path: &[String]) -> Names {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let uses = (0..=path.len()).rev().find_map(|n| Some((n, self.0.get(&path[..n])?)));
            let Some((n, uses)) = uses else { return Vec::new() };
            let given_on = path.get(..=n).and_then(|name| uses.given_on.get(name));
            let Some(target) = given_on else { return path[..n].to_vec() };
            path = [target, &path[n + 1..]].concat();
        }
        path
    }

    /// For each folder, which of its children use which others, and an example of it.
    fn edges(&self) -> BTreeMap<Names, BTreeMap<(String, String), String>> {
        let mut folders: BTreeMap<Names, BTreeMap<_, _>> = BTreeMap::new();
        for (module, uses) in &self.0 {
            for named in &uses.named {
                let home = self.home(named);
                let n = module.iter().zip(&home).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(to)) = (module.get(n), home.get(n)) {
                    let example = format!("{} names {}", module.join("/"), named.join("::"));
                    let edges = folders.entry(module[..n].to_vec()).or_default();
                    edges.entry((from.clone(), to.clone())).or_insert(example);
                }
            }
        }
        folders
    }

    /// A circle, told by an example for each step of it.
    fn circle(&self) -> Option<String> {
        self.edges().values().find_map(|edges| {
            let mut left = edges.clone();
            // What uses nothing that is left, or is used by nothing that is left, is in no circle.
            loop {
                let (from, to): (BTreeSet<_>, BTreeSet<_>) = left.keys().cloned().unzip();
                let n = left.len();
                left.retain(|(a, b), _| to.contains(a) && from.contains(b));
                if left.len() == n {
                    break;
                }
            }
            (!left.is_empty()).then(|| left.into_values().collect::<Vec<_>>().join("\n"))
        })
    }
}

/// The Rust files of a folder, without tests.
fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "tests" || name.ends_with("tests.rs") {
            continue;
        } else if entry.is_dir() {
            sources(&entry, out);
        } else if name.ends_with(".rs") && name != "main.rs" {
            out.push(entry);
        }
    }
}

/// Modules from pairs of a path and its source.
fn made(files: &[(&str, &str)]) -> Modules {
    let names = |path: &str| path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect::<Names>();
    Modules(files.iter().map(|(path, source)| (names(path), Uses::of(names(path), source))).collect())
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let circles: [&[(&str, &str)]; 5] = [
        &[("a", "use super::b::{self, B};"), ("b", "use crate::a::A;"), ("", "")],
        &[("a", "fn f() -> crate::b::B { super::b::f() }"), ("b", "fn f(_: super::a::A) {}"), ("", "")],
        &[("a", "use crate::B;"), ("b", "use crate::A;"), ("", "pub use a::A; pub use b::B;")],
        &[
            ("x::a", "use super::C;"),
            ("x::b", "use super::a;"),
            ("x::c", "use super::b;"),
            ("x", "pub use c::C;"),
            ("", ""),
        ],
        &[("a", "mod inner { use super::super::b::B; }"), ("b::deep", "use crate::a::A;"), ("b", ""), ("", "")],
    ];
    for files in circles {
        assert!(made(files).circle().is_some(), "{files:?}");
    }
}

#[test]
fn imports_that_only_point_down_are_no_circle() {
    let files = [
        ("a", "use super::b::B; #[cfg(test)] mod tests { use super::*; }"),
        ("b", "use std::a::A; #[cfg(test)] mod tests { use crate::a::A; }"),
        ("b::deep", "use super::{B, b}; use super::super::c::C;"),
        ("c", "fn f() { a::A::new() }"),
        ("", "pub use a::A;"),
    ];
    assert_eq!(made(&files).circle(), None);
}

#[test]
fn no_files_of_a_folder_import_each_other_in_a_circle() {
    let modules = Modules::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(modules.0.len() > 200, "the sources are there");
    let circle = modules.circle();
    assert!(circle.is_none(), "these import each other in a circle:\n{}", circle.unwrap_or_default());
}
