//! `genarm compare`

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::Usage;
use super::load::{ConfigArgs, catch_interrupts, progress};
use super::measure::{JudgeArgs, TextArgs, guard, need_arms, provenance, seeded, table, write_whole};
use super::method::Method;
use super::output::print;
use crate::config::{Config, LoraSpec};
use crate::eval::judges::{Case, Verdict, compare};
use crate::eval::scorers::{Item, Kind, ScorerSpec};
use crate::eval::stats::Mean;
use crate::eval::strategy::{Made, Strategy, make};
use crate::eval::win_rate::WinRate;
use crate::files::model_name;

/// Measure how often one way to answer beats another
///
/// A way is base, genarm[:NAME=W,…], best-of-N[:NAME=W,…], args[-K][:NAME=W,…], a FILE.yaml (another configuration), or
/// a FILE.gguf[+LORA.gguf] (a model alone, such as one trained by DPO). All sample alike, as the configuration says.
/// Without a seed, 1 is used.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    texts: TextArgs,
    /// The way to compare with
    #[arg(long, value_name = "WAY")]
    a: Method,
    /// A way to compare; repeatable
    #[arg(long, value_name = "WAY", required = true)]
    b: Vec<Method>,
    /// Who judges: cheerful, talkative, plain, NAME=cmd:COMMAND or NAME=judge:URL (see --criterion); repeatable
    #[arg(long = "judge", value_name = "JUDGE", required = true)]
    judge: Vec<ScorerSpec>,
    /// Report the share of the last --b's gain in reward over --a that each other way reaches
    #[arg(long)]
    gap: bool,
    /// Write all texts and verdicts: JSONL
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judges: JudgeArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// A way to answer, ready to run.
struct Side {
    name: String,
    config: Config,
    strategy: Strategy,
    made: Vec<Made>,
}

/// What one judge says about one side.
#[derive(Serialize)]
struct JudgedSide {
    side: String,
    judge: String,
    /// Mean rating, where the judge rates each text by itself.
    reward: Option<Mean>,
    /// Against side A; absent for A itself.
    against_a: Option<WinRate>,
    gap: Option<f64>,
    kl: Option<f64>,
    n_tokens: f64,
    #[serde(skip)]
    verdicts: Vec<Verdict>,
}

/// Generates, judges and prints.
pub fn run(args: Args) -> anyhow::Result<()> {
    let main = main_config(&args)?;
    let prompts = args.texts.read()?;
    let params = seeded(&main.sampling);
    args.judges.check(&args.judge)?;
    let mut sides = std::iter::once(&args.a)
        .chain(&args.b)
        .map(|method| side(method, &main, &args))
        .collect::<anyhow::Result<Vec<_>>>()?;
    name_apart(&mut sides);
    let configs: Vec<&Config> = sides.iter().map(|side| &side.config).collect();
    let mut more = args.texts.about(&prompts);
    more["seed"] = params.seed.into();
    more["sides"] = json!(sides.iter().map(|s| json!({"name": s.name, "recipe": s.strategy})).collect::<Vec<_>>());
    more["judges"] = json!(args.judge.iter().map(ToString::to_string).collect::<Vec<_>>());
    more["judge"] = args.judges.about();
    let distinct = distinct(&configs);
    guard(&[("--out", args.out.as_deref())], &[("the prompts", &args.texts.prompts)], &distinct)?;
    let about = provenance("compare", &distinct, more)?;
    catch_interrupts()?;
    let bar = progress("answering", (sides.len() * prompts.len()) as u64);
    for i in 0..sides.len() {
        if sides[i].made.is_empty() {
            // All sides on the same models run in one load.
            let config = sides[i].config.clone();
            let mut generator = args.texts.generator(config.clone(), &prompts, params.clone())?;
            for side in sides.iter_mut().filter(|side| side.made.is_empty() && side.config == config) {
                let items: Vec<_> = (0..prompts.len()).map(|prompt| (prompt, &side.strategy)).collect();
                side.made = make(&mut generator, &items, params.seed, &mut || bar.inc(1))?;
            }
        }
    }
    bar.finish_and_clear();
    let rows = args.judge.iter().map(|spec| judge(spec, &args, &prompts, &sides, params.seed));
    let rows: Vec<JudgedSide> = rows.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect();
    if let Some(path) = &args.out {
        write_whole(path, &lines(&about, &prompts, &sides, &rows)?)?;
    }
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&json!({"about": about, "rows": rows}))?));
    }
    print(&text(&args, &rows, prompts.len()))
}

/// The configuration of the ways that name none: of --config and the command line, else of the first FILE.yaml.
fn main_config(args: &Args) -> anyhow::Result<Config> {
    let overrides = &args.config.overrides;
    if args.config.config.is_some() || overrides.base.is_some() {
        return args.config.resolve();
    }
    let first = std::iter::once(&args.a).chain(&args.b).find_map(|method| match method {
        Method::Config(path) => Some(path),
        _ => None,
    });
    match first {
        Some(path) => args.config.load(Some(path)),
        None => args.config.resolve(),
    }
}

fn side(method: &Method, main: &Config, args: &Args) -> anyhow::Result<Side> {
    let weights = |given: &[(String, f32)]| -> anyhow::Result<Vec<f32>> {
        need_arms(main)?;
        if given.is_empty() {
            return Ok(main.weights());
        }
        let mut weights = [&vec![0.0; main.arms.len()], &main.weights()[main.arms.len()..]].concat();
        for (name, weight) in given {
            weights[main.weight_index(name)?] = *weight;
            main.check_weight(name, *weight).map_err(|problem| Usage(format!("{name} {problem}")))?;
        }
        Ok(weights)
    };
    let guided = |numbers: Vec<f32>| Strategy::guided_by(&numbers, main.arms.len());
    let named = |given: &[(String, f32)]| match given {
        [] => String::new(),
        _ => format!(" ({})", given.iter().map(|(n, w)| format!("{n} {w}")).collect::<Vec<_>>().join(", ")),
    };
    let (name, config, strategy) = match method {
        Method::Base => ("base".into(), main.clone(), Strategy::guided(vec![0.0; main.arms.len()])),
        Method::Guided(given) => (format!("GenARM{}", named(given)), main.clone(), guided(weights(given)?)),
        Method::BestOf(n, given) => {
            let strategy = Strategy { best_of: Some(*n), ..guided(weights(given)?) };
            (format!("best of {n}{}", named(given)), main.clone(), strategy)
        }
        Method::Args(k, given) => {
            let strategy = Strategy { candidates: Some(*k), ..guided(weights(given)?) };
            (format!("ARGS, k = {k}{}", named(given)), main.clone(), strategy)
        }
        Method::Config(path) => {
            let config = args.config.load(Some(path))?;
            let strategy = Strategy::guided_by(&config.weights(), config.arms.len());
            (path.display().to_string(), config, strategy)
        }
        Method::Model(path, lora) => {
            let mut config = Config { arms: Vec::new(), profiles: Default::default(), ..main.clone() };
            config.base.model = args.config.hub.file(path)?;
            let lora_file = lora.as_ref().map(|path| args.config.hub.file(path)).transpose()?;
            config.base.lora = lora_file.into_iter().map(|path| LoraSpec { path, scale: 1.0 }).collect();
            let shown = lora.as_ref().unwrap_or(path);
            (model_name(shown), config, Strategy::guided(Vec::new()))
        }
    };
    Ok(Side { name, config, strategy, made: Vec::new() })
}

/// Gives ways of one name, such as files of one name in two folders, a number: results are kept by name.
fn name_apart(sides: &mut [Side]) {
    for i in 1..sides.len() {
        let before: Vec<String> = sides[..i].iter().map(|side| side.name.clone()).collect();
        let name = sides[i].name.clone();
        let numbered = (2..).map(|n| format!("{name} #{n}"));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        sides[i].name = names.find(|name| !before.contains(name)).unwrap_or(name);
    }
}

fn distinct<'a>(configs: &[&'a Config]) -> Vec<&'a Config> {
    let mut out: Vec<&Config> = Vec::new();
    configs.iter().for_each(|config| {
        if !out.contains(config) {
            out.push(config);
        }
    });
    out
}

/// All rows of one judge, side A first.
fn judge(
    spec: &ScorerSpec,
    args: &Args,
    prompts: &[String],
    sides: &[Side],
    seed: u32,
) -> anyhow::Result<Vec<JudgedSide>> {
    let client = args.judges.client(matches!(spec.kind, Kind::Judge(_)));
    let ratings: Option<Vec<Vec<f64>>> = match &spec.kind {
        // With both answers before it, a judge decides more surely.
        Kind::Judge(_) if !args.judges.judge_logprobs => None,
        _ => {
            let scorer = spec.open(&client)?;
            let rate = |side: &Side| {
                let items = prompts.iter().zip(&side.made);
                scorer
                    .score(&items.map(|(prompt, made)| Item { prompt, response: &made.text.text }).collect::<Vec<_>>())
            };
            Some(sides.iter().map(rate).collect::<Result<_, _>>()?)
        }
    };
    let mut rows = Vec::new();
    for (i, side) in sides.iter().enumerate() {
        let verdicts = match (&spec.kind, &ratings) {
            _ if i == 0 => Vec::new(),
            (_, Some(ratings)) => ratings[0].iter().zip(&ratings[i]).map(|(a, b)| Verdict::of(*a, *b)).collect(),
            (Kind::Judge(url), None) => {
                let cases = prompts.iter().zip(sides[0].made.iter().zip(&side.made));
                let cases: Vec<_> =
                    cases.map(|(p, (a, b))| Case { prompt: p, a: &a.text.text, b: &b.text.text }).collect();
                compare(&client.at(url), &client.criterion(&spec.name)?, &cases, u64::from(seed) + i as u64)?
            }
            _ => unreachable!("whoever is no language model has rated"),
        };
        let mean = |f: &dyn Fn(&Made) -> f64| Mean::of(&side.made.iter().map(f).collect::<Vec<_>>()).mean;
        rows.push(JudgedSide {
            side: side.name.clone(),
            judge: spec.name.clone(),
            reward: ratings.as_ref().map(|ratings| Mean::of(&ratings[i])),
            against_a: (i > 0).then(|| WinRate::of(&verdicts)),
            gap: None,
            // Nothing says how far another base is from this one.
            kl: (!side.strategy.weights.is_empty()).then(|| mean(&|made| made.kl)),
            n_tokens: mean(&|made| made.text.tokens.len() as f64),
            verdicts,
        });
    }
    client.progress.finish_and_clear();
    if args.gap
        && let (Some(first), Some(last)) = (rows[0].reward, rows.last().and_then(|row| row.reward))
    {
        rows.iter_mut().for_each(|row| row.gap = row.reward.map(|r| (r.mean - first.mean) / (last.mean - first.mean)));
    }
    Ok(rows)
}

/// One line a prompt: every side's text, and every judge's verdict on it.
fn lines(about: &serde_json::Value, prompts: &[String], sides: &[Side], rows: &[JudgedSide]) -> anyhow::Result<String> {
    let mut out = format!("{about}\n");
    for (i, prompt) in prompts.iter().enumerate() {
        let texts: serde_json::Map<_, _> =
            sides.iter().map(|side| (side.name.clone(), side.made[i].text.text.clone().into())).collect();
        let verdict =
            |row: &JudgedSide| Some(json!({"judge": row.judge, "side": row.side, "verdict": row.verdicts.get(i)?}));
        let verdicts: Vec<_> = rows.iter().filter_map(verdict).collect();
        let _ = writeln!(out, "{}", json!({"prompt": prompt, "texts": texts, "verdicts": verdicts}));
    }
    Ok(out)
}

fn text(args: &Args, rows: &[JudgedSide], n_prompts: usize) -> String {
    let row = |row: &JudgedSide| {
        let rate = row.against_a.as_ref();
        let mut cells = vec![row.judge.clone(), row.side.clone()];
        cells.push(row.reward.map_or("–".into(), |reward| reward.to_string()));
        cells.push(rate.map_or("–".into(), |r| r.rate.to_string()));
        cells.push(rate.map_or("–".into(), |r| format!("{} / {} / {} / {}", r.wins, r.ties, r.losses, r.failures)));
        if args.gap {
            cells.push(row.gap.map_or("–".into(), |gap| format!("{:.0} %", gap * 100.0)));
        }
        cells.push(row.kl.map_or("–".into(), |kl| format!("{kl:.2}")));
        cells.push(format!("{:.0}", row.n_tokens));
        cells
    };
    let mut header = vec!["judge", "way", "mean reward", "win rate [95 %]", "won / tied / lost / failed"];
    if args.gap {
        header.push("gap closed");
    }
    header.extend(["KL, nats", "tokens"]);
    let a = rows.first().map_or("", |row| row.side.as_str());
    let mut out = table(&header, rows.iter().map(row).collect());
    let _ = writeln!(out, "\nwins + ½ ties against {a}, over {n_prompts} prompts; failed verdicts are not counted");
    out
}
