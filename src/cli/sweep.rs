//! `genarm sweep`

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::Usage;
use super::load::{ConfigArgs, catch_interrupts, progress};
use super::measure::{JudgeArgs, TextArgs, beta_r, guard, need_arms, provenance, table};
use super::output::print;
use super::profile::write_profile;
use crate::config::Config;
use crate::eval::grid::{Axis, points};
use crate::eval::plots::{FrontChart, KlChart, SweepPlot, write};
use crate::eval::results::Results;
use crate::eval::scorers::ScorerSpec;
use crate::eval::strategy::Strategy;
use crate::eval::sweep::{Front, Named, Point, Record, Summary, Sweep, front, summarise};
use crate::files::appended;
use crate::nearest::suggestion;

/// Generate under many weights, and plot the rewards against each other and against KL
///
/// All points run in one load of the models, many texts at once. The results go to --out line by line; a sweep that was
/// killed goes on there when the same command is run again. Without a seed, 1 is used.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    texts: TextArgs,
    /// Weights of an ARM: NAME=FROM:TO:STEP, or NAME=W,W,…; repeatable, all combinations are made
    #[arg(long = "grid", value_name = "NAME=RANGE", required = true)]
    grid: Vec<Axis>,
    /// Leave out the combinations of --grid in which several ARMs have a weight
    #[arg(long)]
    alone: bool,
    /// Rate the texts: cheerful, talkative, plain, NAME=cmd:COMMAND or NAME=judge:URL (see --criterion); repeatable
    #[arg(long = "scorer", value_name = "SCORER")]
    scorers: Vec<ScorerSpec>,
    /// Rewards of the Pareto front: names of scorers, or arm:NAME [default: two scorers, else the grid's ARMs]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    objectives: Vec<String>,
    /// Add best-of-N baselines: N texts of the base, ranked by each ARM of the grid and by all of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1024))]
    best_of: Option<u32>,
    /// Do not add the configuration's profiles as points
    #[arg(long)]
    no_profiles: bool,
    /// Results: JSONL
    #[arg(long, value_name = "FILE", default_value = "sweep.jsonl")]
    out: PathBuf,
    /// Draw STEM-front and STEM-kl, as .svg and .png
    #[arg(long, value_name = "STEM")]
    plot: Option<PathBuf>,
    /// Largest KL to the base, in nats, for the recommended point
    #[arg(long, value_name = "NATS", default_value_t = f64::INFINITY, hide_default_value = true)]
    budget: f64,
    /// Write the recommended weights into the configuration, as a profile of this name
    #[arg(long, value_name = "NAME")]
    write_profile: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judges: JudgeArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Sweeps, prints and draws.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.config.resolve()?;
    need_arms(&config)?;
    if let (Some(_), None) = (&args.write_profile, &config.path) {
        return Err(Usage("--write-profile needs a configuration to write to; give one with --config".into()).into());
    }
    let names = config.weight_names();
    let points = all_points(&args, &config)?;
    let objectives = objectives(&args, &config)?;
    let prompts = args.texts.read()?;
    let params = super::measure::seeded(&config.sampling);
    let arms: Vec<_> = config.arms.iter().map(|arm| (arm.name.clone(), beta_r(arm).unwrap_or(1.0))).collect();
    args.judges.check(&args.scorers)?;
    let client = args.judges.client(false);
    let scorers: Vec<Named> =
        args.scorers.iter().map(|spec| Ok((spec.name.clone(), spec.open(&client)?))).collect::<anyhow::Result<_>>()?;
    let sweep = Sweep {
        points: &points,
        prompts: &prompts,
        arms: &arms,
        scorers: &scorers,
        seed: params.seed,
        unit: (args.texts.parallel as usize * 2).max(1),
    };
    let mut more = args.texts.about(&prompts);
    more["seed"] = params.seed.into();
    more["beta_r"] = json!(arms);
    more["scorers"] = json!(args.scorers.iter().map(ToString::to_string).collect::<Vec<_>>());
    more["judge"] = args.judges.about();
    more["points"] = serde_json::to_value(&points)?;
    let charts: Vec<PathBuf> = ["-front.svg", "-front.png", "-kl.svg", "-kl.png"]
        .iter()
        .filter_map(|ending| Some(appended(args.plot.as_deref()?, ending)))
        .collect();
    let mut outputs = vec![("--out", Some(args.out.as_path()))];
    outputs.extend(charts.iter().map(|chart| ("--plot", Some(chart.as_path()))));
    guard(&outputs, &[("the prompts", &args.texts.prompts)], &[&config])?;
    let about = provenance("sweep", &[&config], more)?;
    catch_interrupts()?;
    let (mut results, done) = Results::open::<Record>(&args.out, &about, sweep.unit, sweep.n_texts())?;
    let records = if done.len() == sweep.n_texts() {
        done
    } else {
        let mut generator = args.texts.generator(config.clone(), &prompts, params)?;
        let bar = progress("sweeping", sweep.n_texts() as u64).with_position(done.len() as u64);
        bar.reset_eta();
        let records = sweep.run(&mut generator, &mut results, done, &mut || bar.inc(1))?;
        bar.finish_and_clear();
        records
    };
    let summaries = summarise(&points, &records);
    let arm =
        |objective: &str| names.iter().position(|name| name == objective.strip_prefix("arm:").unwrap_or(objective));
    let front = front(&summaries, &objectives, &arm, args.budget);
    report(&args, &config, &names, &summaries, &front, &about)
}

/// The grid, the profiles and the baselines.
fn all_points(args: &Args, config: &Config) -> anyhow::Result<Vec<Point>> {
    let n_arms = config.arms.len();
    let configured = config.weights();
    let base = [&vec![0.0; n_arms], &configured[n_arms..]].concat();
    let mut start = base.clone();
    for axis in &args.grid {
        // An ARM whose preferences are swept has its weight, unless that is swept too.
        let preference = config.weight_index(&axis.arm)?.checked_sub(n_arms);
        let of_arm = preference.map(|at| config.steering().preferences()[at].arm);
        of_arm.into_iter().for_each(|arm| start[arm] = configured[arm]);
        let problem = axis.weights.iter().find_map(|value| config.check_weight(&axis.arm, *value).err());
        if let Some(problem) = problem {
            return Err(Usage(format!("--grid: {} {problem}", axis.arm)).into());
        }
    }
    let mut grid = points(&args.grid, &start, |name| config.weight_index(name))?;
    if args.alone {
        grid.retain(|weights| weights[..n_arms].iter().filter(|weight| **weight != 0.0).count() <= 1);
    }
    let mut all: Vec<Point> = Vec::new();
    let guided = |numbers: &[f32]| Strategy::guided_by(numbers, n_arms);
    // The base is what everything is measured by.
    if !grid.iter().any(|numbers| guided(numbers).is_base()) {
        all.push(Point { label: None, strategy: guided(&base) });
    }
    all.extend(grid.iter().map(|numbers| Point { label: None, strategy: guided(numbers) }));
    if !args.no_profiles {
        for name in config.profiles.keys() {
            all.push(Point { label: Some(name.clone()), strategy: guided(&config.profile(name)?) });
        }
    }
    if let Some(n) = args.best_of {
        let axes = args.grid.iter().map(|axis| config.weight_index(&axis.arm)).collect::<Result<Vec<_>, _>>()?;
        // A preference has no reward of its own.
        let axes: Vec<_> = axes.into_iter().filter(|axis| *axis < n_arms).collect();
        let mut best = |name: &str, weights: Vec<f32>| {
            let strategy = Strategy { best_of: Some(n as usize), ..Strategy::guided(weights) };
            all.push(Point { label: Some(format!("best of {n} by {name}")), strategy });
        };
        let alone = |arms: &[usize]| (0..n_arms).map(|i| f32::from(u8::from(arms.contains(&i)))).collect::<Vec<_>>();
        for arm in &axes {
            best(&config.arms[*arm].name, alone(&[*arm]));
        }
        if axes.len() > 1 {
            best("all", alone(&axes));
        }
    }
    Ok(all)
}

/// What is weighed against what.
fn objectives(args: &Args, config: &Config) -> anyhow::Result<Vec<String>> {
    let scorers: Vec<String> = args.scorers.iter().map(|spec| spec.name.clone()).collect();
    if args.objectives.is_empty() {
        let of_arm = |axis: &&Axis| config.arms.iter().any(|arm| arm.name == axis.arm);
        let arms = args.grid.iter().filter(of_arm).map(|axis| format!("arm:{}", axis.arm));
        let mut all: Vec<String> = if scorers.len() >= 2 { scorers } else { scorers.into_iter().chain(arms).collect() };
        all.dedup();
        return Ok(all);
    }
    let known: Vec<String> =
        scorers.into_iter().chain(config.arms.iter().map(|arm| format!("arm:{}", arm.name))).collect();
    match args.objectives.iter().find(|name| !known.contains(name)) {
        None => Ok(args.objectives.clone()),
        Some(name) => {
            let near = suggestion(name, known.iter().map(String::as_str));
            Err(Usage(format!("--objectives: there is no reward \"{name}\"{near}")).into())
        }
    }
}

fn report(
    args: &Args,
    config: &Config,
    names: &[String],
    summaries: &[Summary],
    front: &Front,
    about: &serde_json::Value,
) -> anyhow::Result<()> {
    if let Some(stem) = &args.plot {
        let plot = || SweepPlot { summaries, front, arms: &names[..config.arms.len()] };
        let fail = |e| anyhow::anyhow!("{}: {e}", stem.display());
        if front.objectives.len() >= 2 {
            write(&FrontChart(plot()), &appended(stem, "-front")).map_err(fail)?;
        }
        write(&KlChart(plot()), &appended(stem, "-kl")).map_err(fail)?;
    }
    if args.json {
        let value = json!({"about": about, "points": summaries, "front": front});
        print(&format!("{}\n", serde_json::to_string_pretty(&value)?))?;
    } else {
        print(&text(names, summaries, front))?;
    }
    match (&args.write_profile, &config.path, front.recommended) {
        (Some(name), Some(path), Some(best)) => {
            let strategy = &summaries[best].point.strategy;
            let numbers = strategy.weights.iter().chain(&strategy.preferences);
            let weights = names.iter().zip(numbers).map(|(n, w)| (n.as_str(), *w));
            write_profile(path, name, &weights.collect::<Vec<_>>())?;
            eprintln!("wrote profile \"{name}\" into {}", path.display());
        }
        (Some(name), ..) => {
            anyhow::bail!("no point is within --budget {} nats, so no profile \"{name}\" was written", args.budget)
        }
        _ => {}
    }
    Ok(())
}

fn text(names: &[String], summaries: &[Summary], front: &Front) -> String {
    let rewards: Vec<String> = summaries.first().map(|s| s.rewards.keys().cloned().collect()).unwrap_or_default();
    let row = |(i, s): (usize, &Summary)| {
        let mark = match (front.recommended == Some(i), front.points.contains(&i)) {
            (true, _) => "◎",
            (false, true) => "●",
            _ => "",
        };
        let weights = describe(names, s);
        let numbers = rewards.iter().map(|name| s.rewards[name].to_string());
        let rest = [format!("{:.2}", s.kl.mean), format!("{:.0} %", s.flipped * 100.0), format!("{:.0}", s.n_tokens)];
        [mark.to_owned(), weights].into_iter().chain(numbers).chain(rest).collect()
    };
    let header: Vec<&str> = ["", "point"]
        .into_iter()
        .chain(rewards.iter().map(String::as_str))
        .chain(["KL, nats", "flipped", "tokens"])
        .collect();
    let mut out = table(&header, summaries.iter().enumerate().map(row).collect());
    let _ = writeln!(out, "\n● on the front of {} (guided points only); ◎ recommended", front.objectives.join(", "));
    let reference: Vec<_> = front.reference.iter().map(|x| format!("{x:.2}")).collect();
    let _ = writeln!(out, "hypervolume {:.3} above ({})", front.hypervolume, reference.join(", "));
    if let Some(product) = front.mean_inner_product {
        let _ = writeln!(out, "mean inner product {product:.3}");
    }
    let n_failed: usize = summaries.iter().map(|s| s.n_failed).sum();
    if n_failed > 0 {
        let _ = writeln!(out, "{n_failed} ratings failed: the judge's answers could not be read");
    }
    out
}

/// A point in words.
fn describe(names: &[String], summary: &Summary) -> String {
    let strategy = &summary.point.strategy;
    let of_arms = strategy.weights.iter().map(|weight| (weight, *weight != 0.0));
    let numbers = of_arms.chain(strategy.preferences.iter().map(|preference| (preference, true)));
    let named = names.iter().zip(numbers).filter(|(_, (_, shown))| *shown).map(|(n, (w, _))| format!("{n} {w}"));
    match &summary.point.label {
        Some(label) if summary.point.strategy.best_of.is_some() => label.clone(),
        Some(label) if summary.point.strategy.is_base() => format!("{label} (base)"),
        Some(label) => format!("{label} ({})", named.collect::<Vec<_>>().join(", ")),
        None if summary.point.strategy.is_base() => "base".into(),
        None => named.collect::<Vec<_>>().join(", "),
    }
}
