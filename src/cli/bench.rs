//! `bench`: speed on this machine, as a table for people, or as JSON and files for `make bench`, which compares it with
//! other runtimes.

use super::files::say;
use anyhow::{Context, Result};
use clap::Args;
use face96::infer::Detector;
use face96::nets::trace::Graph;
use face96::ops::dense::{matmul, Strides};
use face96::schema::Schema;
use face96::train::bench::Task;
use face96::train::{self, checkpoint::write_atomically, Device};
use face96::weights::Precision;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
pub(super) struct BenchArgs {
    /// Nets to time
    #[arg(long, value_delimiter = ',', default_value = "net2,compact")]
    nets: Vec<String>,
    /// Seconds per figure
    #[arg(long, default_value_t = 5.)]
    seconds: f64,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// Time only training, on this device (see `train`), and print the result as JSON
    #[arg(long, value_name = "DEVICE")]
    training: Option<Device>,
    /// Time training with each of these thread counts, in turns, and print the share of a step that more threads do not shorten
    #[arg(long, value_name = "COUNT,COUNT,...", value_delimiter = ',', conflicts_with_all = ["training", "files"])]
    threads: Vec<usize>,
    /// Folder to write everything that other runtimes need for the same task: weights, ONNX, steps of the net, a training task
    #[arg(long)]
    files: Option<PathBuf>,
}

pub(super) fn bench(args: BenchArgs) -> Result<()> {
    if let Some(folder) = &args.files {
        return args.nets.iter().try_for_each(|net| files(net, folder));
    }
    if let Some(device) = &args.training {
        for net in &args.nets {
            say(serde_json::to_string(&Task::new(net)?.run(device, args.seconds)?)?)?;
        }
        return Ok(());
    }
    if !args.threads.is_empty() {
        return args.nets.iter().try_for_each(|net| threads(net, &args));
    }
    if !args.json {
        say(format!("{:10} {:>16} {:>22}", "net", "train samples/s", "forward ms (1 thread)"))?;
    }
    let mut figures = Vec::new();
    for net in &args.nets {
        let task = Task::new(net)?;
        let batch = task.config().batch as f64;
        let weights = train::export(task.config(), "", &Schema::kaggle(), None, task.state())?;
        let mut steps = task.run(&Device::Cpu, args.seconds)?;
        let mut detector = Detector::new(&weights)?;
        let crop: Vec<f32> = (0..weights.meta.side.pow(2)).map(|i| (i % 251) as f32).collect();
        let mut times = Vec::new();
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < args.seconds || times.len() < 3 {
            let one = Instant::now();
            detector.detect_grey(&crop)?;
            times.push(one.elapsed().as_secs_f64() * 1e3);
        }
        let (rate, forward) = (batch / median(&mut steps.seconds), median(&mut times));
        if !args.json {
            say(format!("{net:10} {rate:16.1} {forward:22.2}"))?;
        }
        figures.push(json!({ "net": net, "train_samples_per_second": rate, "forward_ms": forward }));
    }
    let product = product_rate();
    if args.json {
        say(json!({ "nets": figures, "multiply_adds_per_second": product }))?;
    } else {
        say(format!("one large matrix product: {:.0} billion multiply-adds a second", product / 1e9))?;
    }
    Ok(())
}

/// Rounds in which the thread counts of `--threads` take turns, because a machine's speed drifts.
const ROUNDS: usize = 3;

/// Times training steps of a net with each number of threads, and fits Amdahl's law to them.
fn threads(net: &str, args: &BenchArgs) -> Result<()> {
    anyhow::ensure!(args.threads.iter().all(|n| (1..=1024).contains(n)), "--threads: expected counts from 1 to 1024");
    let mut times: Vec<(usize, Vec<f64>)> = args.threads.iter().map(|n| (*n, vec![])).collect();
    let batch = Task::new(net)?.config().batch as f64;
    for _ in 0..ROUNDS {
        for (count, seconds) in &mut times {
            let task = Task::new(net)?;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(*count).build()?;
            seconds.extend(pool.install(|| task.run(&Device::Cpu, args.seconds / ROUNDS as f64))?.seconds);
        }
    }
    let steps: Vec<(usize, f64)> = times.iter_mut().map(|(n, seconds)| (*n, median(seconds))).collect();
    let law = amdahl(&steps);
    if args.json {
        let rates: Vec<_> =
            steps.iter().map(|(n, s)| json!({ "threads": n, "samples_per_second": batch / s })).collect();
        let law = law.map(|[serial, parallel]| json!({ "serial_ms": serial * 1e3, "parallel_ms": parallel * 1e3 }));
        say(json!({ "net": net, "threads": rates, "model": law }))?;
        return Ok(());
    }
    for (n, seconds) in &steps {
        let times = steps[0].1 / seconds;
        say(format!(
            "{net:10} {n:4} threads {:9.1} samples/s  {times:.2} times as with {}",
            batch / seconds,
            steps[0].0
        ))?;
    }
    if let Some([serial, parallel]) = law {
        let of = |n: f64| batch / (serial + parallel / n);
        say(format!(
            "{net:10} a step is {:.1} ms + {:.1} ms / threads ({:.1} % of one thread's time is not shared); 16 threads by this: {:.0} samples/s, {:.1} times those of 2",
            serial * 1e3,
            parallel * 1e3,
            100. * serial / (serial + parallel),
            of(16.),
            of(16.) / of(2.)
        ))?;
    }
    Ok(())
}

/// The serial and the parallel seconds of a step, `serial + parallel / threads`, by least squares of relative errors; needs two counts.
fn amdahl(steps: &[(usize, f64)]) -> Option<[f64; 2]> {
    // Each equation is divided by its time: serial / t + parallel / (n t) = 1.
    let rows: Vec<[f64; 2]> = steps.iter().map(|(n, t)| [1. / t, 1. / (*n as f64 * t)]).collect();
    let sum = |f: &dyn Fn(&[f64; 2]) -> f64| rows.iter().map(f).sum::<f64>();
    let (aa, ab, bb) = (sum(&|r| r[0] * r[0]), sum(&|r| r[0] * r[1]), sum(&|r| r[1] * r[1]));
    let (a, b) = (sum(&|r| r[0]), sum(&|r| r[1]));
    let determinant = aa * bb - ab * ab;
    if determinant.abs() < 1e-9 * aa * bb {
        return None;
    }
    // Noise may make either of them negative.
    Some(match [(a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant] {
        [..0., _] => [0., b / bb],
        [_, ..0.] => [a / aa, 0.],
        both => both,
    })
}

/// Writes `NET.safetensors` (f32), `NET.onnx`, `NET.graph.json` and `NET.task.safetensors`.
fn files(net: &str, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let task = Task::new(net)?;
    let weights = train::export(task.config(), "", &Schema::kaggle(), None, task.state())?;
    let graph = Graph::of(&weights.net()?)?;
    let steps = json!({ "graph": graph, "multiplyAdds": graph.multiply_adds() });
    let write = |end: &str, bytes: &[u8]| write_atomically(&folder.join(format!("{net}.{end}")), bytes);
    write("safetensors", &weights.to_bytes(Precision::F32)?)?;
    write("onnx", &face96::onnx::to_bytes(&weights)?)?;
    write("graph.json", steps.to_string().as_bytes())?;
    write("task.safetensors", &task.to_bytes()?)?;
    Ok(())
}

/// Multiply-adds a second of a matrix product that suits the caches well: the reference for a net's training.
fn product_rate() -> f64 {
    const N: usize = 1024;
    let (a, b, mut out) = (vec![1f32; N * N], vec![1f32; N * N], vec![0f32; N * N]);
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            matmul((N, N, N), (&a, Strides(N, 1)), (&b, Strides(N, 1)), &mut out);
            start.elapsed().as_secs_f64()
        })
        .collect();
    N.pow(3) as f64 / median(&mut times)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::amdahl;

    #[test]
    fn the_serial_share_by_hand() {
        let [serial, parallel] = amdahl(&[(1, 0.11), (2, 0.06), (4, 0.035)]).unwrap();
        assert!((serial - 0.01).abs() < 1e-9 && (parallel - 0.1).abs() < 1e-9);
        assert_eq!(amdahl(&[(2, 0.06), (2, 0.05)]), None);
        // Faster than possible: nothing is serial. Slower with more threads: everything is.
        assert_eq!(amdahl(&[(1, 0.1), (2, 0.04)]).unwrap()[0], 0.);
        assert_eq!(amdahl(&[(1, 0.1), (2, 0.2)]).unwrap()[1], 0.);
    }
}
