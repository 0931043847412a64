//! `bench`: speed on this machine, as a table for people, or as JSON and files for `make bench`, which compares with
//! other runtimes.

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
    /// Seconds for each figure
    #[arg(long, default_value_t = 5.)]
    seconds: f64,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// Time training alone on this device (see `train`) and print it as JSON
    #[arg(long, value_name = "DEVICE")]
    training: Option<Device>,
    /// Write what other runtimes need to do the same to this folder: weights, ONNX, steps of the net, a training task
    #[arg(long)]
    files: Option<PathBuf>,
}

pub(super) fn bench(args: BenchArgs) -> Result<()> {
    if let Some(folder) = &args.files {
        return args.nets.iter().try_for_each(|net| files(net, folder));
    }
    if let Some(device) = &args.training {
        for net in &args.nets {
            println!("{}", serde_json::to_string(&Task::new(net)?.run(device, args.seconds)?)?);
        }
        return Ok(());
    }
    if !args.json {
        println!("{:10} {:>16} {:>22}", "net", "train samples/s", "forward ms (1 thread)");
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
            println!("{net:10} {rate:16.1} {forward:22.2}");
        }
        figures.push(json!({ "net": net, "train_samples_per_second": rate, "forward_ms": forward }));
    }
    let product = product_rate();
    if args.json {
        println!("{}", json!({ "nets": figures, "multiply_adds_per_second": product }));
    } else {
        println!("one large matrix product: {:.0} billion multiply-adds a second", product / 1e9);
    }
    Ok(())
}

/// `NET.safetensors` (f32), `NET.onnx`, `NET.graph.json` and `NET.task.safetensors`.
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

/// Multiply-adds a second of a product that fits the caches' ways well: what the training of a net is measured by.
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
