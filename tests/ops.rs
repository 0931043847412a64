//! The training ops against candle's own and against finite differences, over shapes drawn at random.
#![cfg(feature = "native")]

use candle_core::{Device, Result, Tensor, Var};
use face96::ops::{conv::ConvOp, dense::DenseOp, heatmap::SoftArgmax, norm::BatchNorm, pool};
use rand::{seq::SliceRandom, Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| rng.random_range(-1f32..1.)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn var(rng: &mut ChaCha8Rng, shape: &[usize]) -> Var {
    Var::from_tensor(&random(rng, shape)).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.contiguous().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn close(a: &Tensor, b: &Tensor, what: &str) {
    assert_eq!(a.dims(), b.dims(), "{what}");
    for (i, (a, b)) in flat(a).iter().zip(flat(b)).enumerate() {
        assert!((a - b).abs() <= 1e-3 * (1. + b.abs()), "{what}: value {i}: {a} and {b}");
    }
}

/// A scalar that depends on every value differently.
fn scalar(y: &Tensor, weights: &Tensor) -> Tensor {
    (y * weights).unwrap().sum_all().unwrap()
}

/// Compares the gradients of two ways to compute the same, at the same variables.
fn same_gradients(vars: &[&Var], ours: &Tensor, theirs: &Tensor, weights: &Tensor, what: &str) {
    close(ours, theirs, what);
    let (a, b) = (scalar(ours, weights).backward().unwrap(), scalar(theirs, weights).backward().unwrap());
    for (i, v) in vars.iter().enumerate() {
        close(a.get(v.as_tensor()).unwrap(), b.get(v.as_tensor()).unwrap(), &format!("{what}: gradient {i}"));
    }
}

/// Compares the gradient with differences of the function at a few places.
fn finite_differences(v: &Var, f: impl Fn() -> Tensor, what: &str) {
    let gradient = flat(f().backward().unwrap().get(v.as_tensor()).unwrap());
    let start = v.as_tensor().copy().unwrap();
    let value = |i: usize, step: f32| {
        let mut values = flat(&start);
        values[i] += step;
        v.set(&Tensor::from_vec(values, start.shape(), &Device::Cpu).unwrap()).unwrap();
        f().to_scalar::<f32>().unwrap()
    };
    for i in (0..gradient.len()).step_by(gradient.len().div_ceil(12)) {
        let step = 1e-2;
        let slope = (value(i, step) - value(i, -step)) / (2. * step);
        assert!((slope - gradient[i]).abs() < 2e-2 * (1. + slope.abs()), "{what}: {i}: {slope} and {}", gradient[i]);
    }
    v.set(&start).unwrap();
}

fn conv2d(x: &Tensor, w: &Tensor, b: &Tensor, stride: usize, padding: usize, relu: bool) -> Result<Tensor> {
    x.apply_op3(w, b, ConvOp { stride, padding, relu, input_gradient: true })
}

fn dense(x: &Tensor, w: &Tensor, b: &Tensor, relu: bool) -> Tensor {
    x.apply_op3(w, b, DenseOp { relu, input_gradient: true }).unwrap()
}

fn max_pool(x: &Tensor, size: usize) -> Tensor {
    x.apply_op1(pool::MaxPool { size }).unwrap()
}

fn soft_argmax(x: &Tensor, reach: &[f32]) -> Tensor {
    x.apply_op1(SoftArgmax { reach: reach.to_vec() }).unwrap()
}

/// NHWC -> NCHW and back.
fn nchw(t: &Tensor) -> Tensor {
    t.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
}

fn nhwc(t: &Tensor) -> Tensor {
    t.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

#[test]
fn convolution_equals_candles_forward_and_backward() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for case in 0..40 {
        let (b, mut c, mut o) = (rng.random_range(1..20), rng.random_range(1..6), rng.random_range(1..9));
        let mut kernel = rng.random_range(1..4);
        let (h, w) = (rng.random_range(kernel..14), rng.random_range(kernel..14));
        let (mut stride, padding) = (rng.random_range(1..3), rng.random_range(0..2));
        if case % 4 > 1 && h.min(w) > 2 {
            // Whole vectors of channels: Winograd's way.
            (c, o, kernel, stride) = (rng.random_range(16..40), rng.random_range(16..40), 3, 1);
        }
        let relu = case % 2 == 0;
        let what =
            format!("conv b{b} {h}x{w}x{c} -> {o}, kernel {kernel}, stride {stride}, padding {padding}, relu {relu}");
        let (x, weight) = (var(&mut rng, &[b, h, w, c]), var(&mut rng, &[o, c, kernel, kernel]));
        let bias = var(&mut rng, &[o]);
        let ours = conv2d(&x, &weight, &bias, stride, padding, relu).unwrap();
        let theirs = nchw(&x).conv2d(&weight, padding, stride, 1, 1).unwrap();
        let theirs = nhwc(&theirs).broadcast_add(&bias).unwrap();
        let theirs = if relu { theirs.relu().unwrap() } else { theirs };
        let weights = random(&mut rng, ours.dims());
        // candle 0.11 has no gradient of a strided convolution for sizes that the stride does not divide.
        if stride == 1 {
            same_gradients(&[&x, &weight, &bias], &ours, &theirs, &weights, &what);
        } else {
            close(&ours, &theirs, &what);
        }
        if !relu {
            let f = || scalar(&conv2d(&x, &weight, &bias, stride, padding, false).unwrap(), &weights);
            finite_differences(&x, f, &format!("{what}: x"));
            finite_differences(&weight, f, &format!("{what}: weight"));
        }
    }
}

#[test]
fn a_kernel_larger_than_the_picture_is_an_error() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let (x, w, b) = (random(&mut rng, &[1, 2, 2, 1]), random(&mut rng, &[1, 1, 3, 3]), random(&mut rng, &[1]));
    assert!(conv2d(&x, &w, &b, 1, 0, false).unwrap_err().to_string().contains("does not fit"));
    let w = random(&mut rng, &[1, 2, 1, 1]);
    assert!(conv2d(&x, &w, &b, 1, 0, false).is_err());
}

#[test]
fn dense_pooling_and_sum_equal_candles() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for case in 0..20 {
        let (m, k, n) = (rng.random_range(1..20), rng.random_range(1..40), rng.random_range(1..20));
        let relu = case % 2 == 0;
        let (x, w, b) = (var(&mut rng, &[m, k]), var(&mut rng, &[n, k]), var(&mut rng, &[n]));
        let ours = dense(&x, &w, &b, relu);
        let theirs = x.matmul(&w.t().unwrap()).unwrap().broadcast_add(&b).unwrap();
        let theirs = if relu { theirs.relu().unwrap() } else { theirs };
        same_gradients(&[&x, &w, &b], &ours, &theirs, &random(&mut rng, &[m, n]), "dense");

        let (size, c) = (rng.random_range(2..4), rng.random_range(1..6));
        let (h, w) = (size * rng.random_range(1..5), size * rng.random_range(1..5));
        let batch = rng.random_range(1..10);
        // Distinct values 0.05 apart, so that the step of a difference does not change which one is the maximum.
        let mut values: Vec<f32> = (0..batch * h * w * c).map(|i| i as f32 * 0.05).collect();
        values.shuffle(&mut rng);
        let x = Var::from_vec(values, (batch, h, w, c), &Device::Cpu).unwrap();
        let ours = max_pool(&x, size);
        close(&ours, &nhwc(&nchw(&x).max_pool2d(size).unwrap()), "max-pool");
        // candle 0.11's own gradient of max_pool2d comes out divided by size * size, so only differences can judge it.
        let weights = random(&mut rng, ours.dims());
        finite_differences(&x, || scalar(&max_pool(&x, size), &weights), "max-pool");

        let y = var(&mut rng, x.dims());
        let ours = x.apply_op2(&y, pool::Add { relu }).unwrap();
        let theirs = if relu {
            (x.as_tensor() + y.as_tensor()).unwrap().relu().unwrap()
        } else {
            (x.as_tensor() + y.as_tensor()).unwrap()
        };
        same_gradients(&[&x, &y], &ours, &theirs, &random(&mut rng, x.dims()), "add");
    }
}

#[test]
fn odd_sizes_leave_the_rest_of_a_pool_out() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let x = var(&mut rng, &[2, 7, 5, 3]);
    let ours = max_pool(&x, 2);
    assert_eq!(ours.dims(), [2, 3, 2, 3]);
    let g = scalar(&ours, &ours.ones_like().unwrap()).backward().unwrap();
    // Each of the 36 maxima passes 1 on.
    assert_eq!(flat(g.get(x.as_tensor()).unwrap()).iter().sum::<f32>(), 36.);
}

#[test]
fn batch_norm_upsample_and_soft_argmax_agree_with_candles_and_finite_differences() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for _ in 0..10 {
        let (b, h, w, c) =
            (rng.random_range(2..10), rng.random_range(2..8), rng.random_range(2..8), rng.random_range(1..6));
        let x = var(&mut rng, &[b, h, w, c]);
        let (gamma, beta) = (var(&mut rng, &[c]), var(&mut rng, &[c]));
        let norm = BatchNorm::new(&x, c, false).unwrap();
        let mean = norm.mean.clone();
        let ours = x.apply_op3(&gamma, &beta, norm).unwrap();
        let rows = x.reshape((b * h * w, c)).unwrap();
        let m = rows.mean_keepdim(0).unwrap();
        let centred = rows.broadcast_sub(&m).unwrap();
        let v = centred.sqr().unwrap().mean_keepdim(0).unwrap();
        let theirs = centred.broadcast_div(&(v + 1e-5).unwrap().sqrt().unwrap()).unwrap();
        let theirs = theirs.broadcast_mul(&gamma).unwrap().broadcast_add(&beta).unwrap().reshape(x.shape()).unwrap();
        same_gradients(&[&x, &gamma, &beta], &ours, &theirs, &random(&mut rng, x.dims()), "batch norm");
        close(&Tensor::from_vec(mean, c, &Device::Cpu).unwrap(), &m.squeeze(0).unwrap(), "mean");

        let up = x.apply_op1(pool::Upsample).unwrap();
        let theirs = nhwc(&nchw(&x).upsample_nearest2d(2 * h, 2 * w).unwrap());
        same_gradients(&[&x], &up, &theirs, &random(&mut rng, up.dims()), "upsample");

        let means = x.apply_op1(pool::MeanPool).unwrap();
        let theirs = x.reshape((b, h * w, c)).unwrap().mean(1).unwrap();
        same_gradients(&[&x], &means, &theirs, &random(&mut rng, means.dims()), "mean-pool");

        let reach: Vec<f32> = (0..c).map(|_| rng.random_range(1f32..2.)).collect();
        let found = soft_argmax(&x, &reach);
        let p = candle_nn::ops::softmax(&x.reshape((b, h * w, c)).unwrap(), 1).unwrap();
        let at = |i: usize, n: usize| (2 * i + 1) as f32 / n as f32 - 1.;
        let xs: Vec<f32> = (0..h * w).map(|i| at(i % w, w)).collect();
        let expected =
            p.broadcast_mul(&Tensor::from_vec(xs, (1, h * w, 1), &Device::Cpu).unwrap()).unwrap().sum(1).unwrap();
        let expected = expected.broadcast_mul(&Tensor::new(&reach[..], &Device::Cpu).unwrap()).unwrap();
        let ours = found.narrow(2, 0, 1).unwrap().squeeze(2).unwrap();
        same_gradients(&[&x], &ours, &expected, &random(&mut rng, expected.dims()), "soft-argmax");
        // The heatmap is as wide as its reach: lengths by r, squares of them by r squared.
        let plain = soft_argmax(&x, &[]);
        let factors: Vec<f32> = reach.iter().flat_map(|r| [*r, *r, r * r]).collect();
        let scaled = plain.broadcast_mul(&Tensor::from_vec(factors, (1, c, 3), &Device::Cpu).unwrap()).unwrap();
        close(&found, &scaled, "soft-argmax by its reach");
        let weights = random(&mut rng, found.dims());
        finite_differences(&x, || scalar(&soft_argmax(&x, &reach), &weights), "soft-argmax with variance");
    }
}
