//! Converts a weights file to an ONNX file (operator set 13), for onnxruntime and other readers of the format.
//!
//! In: `input`, (batch, 1, 96, 96), grey values normalised according to the file's metadata `normalisation`: `unit` means
//! divided by 255; `standard` means minus the picture's mean, divided by its standard deviation (at least 8 of 255 levels).
//! With one channel this is (batch, 96, 96, 1) in memory too.
//!
//! Out: `keypoints`, (batch, K, 2), x and y in pixels of the crop, the centre of its first pixel at (0, 0). A net with
//! heatmaps also has `variance`, (batch, K), of each heatmap in squares of half the crop's side; a net with a presence
//! output has `presence`, (batch, 1), the probability of a face; a net with confidences has
//! `confidence`, (batch, K), the probability that each keypoint is right. A finder has `boxes`, (batch, 5, 24, 24), instead: at each
//! place of a grid over the frame, the logit of "the centre of a face is here", the centre's offset from the place's own in x and y, in
//! places, the logarithm of the box's side over [`crate::nets::FINDER_SIZE`], and its roll in radians; [`crate::infer::decode`]
//! turns them into boxes.
//!
//! The steps are those that the net's own pass reports ([`Graph::of`]), with a convolution and its ReLU as two nodes. ONNX has channels
//! before height and width, so the weights of a dense layer are put in that order. The metadata `keypoints` has the keypoints' names.

use crate::error::{Error, Result};
use crate::nets::trace::{Graph, Node, Op};
use crate::nets::SIDE;
use crate::weights::Weights;
use prost::Message;

/// The messages of `onnx.proto3`, as far as they are needed here; field numbers and types are those of that file.
mod proto {
    use prost::{Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub struct ModelProto {
        #[prost(int64, tag = "1")]
        pub ir_version: i64,
        #[prost(string, tag = "2")]
        pub producer_name: String,
        #[prost(string, tag = "3")]
        pub producer_version: String,
        #[prost(message, optional, tag = "7")]
        pub graph: Option<GraphProto>,
        #[prost(message, repeated, tag = "8")]
        pub opset_import: Vec<OperatorSet>,
        #[prost(message, repeated, tag = "14")]
        pub metadata: Vec<Entry>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct OperatorSet {
        #[prost(int64, tag = "2")]
        pub version: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Entry {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct GraphProto {
        #[prost(message, repeated, tag = "1")]
        pub node: Vec<NodeProto>,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(message, repeated, tag = "5")]
        pub initializer: Vec<Tensor>,
        #[prost(message, repeated, tag = "11")]
        pub input: Vec<Value>,
        #[prost(message, repeated, tag = "12")]
        pub output: Vec<Value>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct NodeProto {
        #[prost(string, repeated, tag = "1")]
        pub input: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub output: Vec<String>,
        #[prost(string, tag = "3")]
        pub name: String,
        #[prost(string, tag = "4")]
        pub op_type: String,
        #[prost(message, repeated, tag = "5")]
        pub attribute: Vec<Attribute>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Attribute {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(int64, optional, tag = "3")]
        pub i: Option<i64>,
        #[prost(bytes = "vec", optional, tag = "4")]
        pub s: Option<Vec<u8>>,
        #[prost(int64, repeated, tag = "8")]
        pub ints: Vec<i64>,
        #[prost(int32, tag = "20")]
        pub kind: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Tensor {
        #[prost(int64, repeated, tag = "1")]
        pub dims: Vec<i64>,
        #[prost(int32, tag = "2")]
        pub data_type: i32,
        #[prost(string, tag = "8")]
        pub name: String,
        #[prost(bytes = "vec", tag = "9")]
        pub raw_data: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Value {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub kind: Option<Type>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Type {
        #[prost(message, optional, tag = "1")]
        pub tensor: Option<TensorType>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct TensorType {
        #[prost(int32, tag = "1")]
        pub element: i32,
        #[prost(message, optional, tag = "2")]
        pub shape: Option<ShapeProto>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct ShapeProto {
        #[prost(message, repeated, tag = "1")]
        pub dim: Vec<Dimension>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Dimension {
        #[prost(oneof = "Length", tags = "1, 2")]
        pub length: Option<Length>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub enum Length {
        #[prost(int64, tag = "1")]
        Fixed(i64),
        #[prost(string, tag = "2")]
        Named(String),
    }
}

/// `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Converts a weights file to an ONNX file.
///
/// # Errors
/// Weights that do not fit their own net.
pub fn to_bytes(weights: &Weights) -> Result<Vec<u8>> {
    let graph = Graph::of(&weights.net()?)?;
    let mut out = Builder::default();
    // The name of each step's output, which changes if a ReLU follows.
    let mut names: Vec<String> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let x: Vec<&str> = node.inputs.iter().map(|i| names[*i].as_str()).collect();
        let name = out.step(&graph, node, &x, weights)?;
        names.push(name);
    }
    out.results(&graph, &names, weights);

    let meta = &weights.meta;
    let normalisation = serde_json::to_value(meta.normalisation).map_err(|e| Error::Weights(e.to_string()))?;
    let entry = |key: &str, value: &str| proto::Entry { key: key.into(), value: value.into() };
    let side = SIDE as i64;
    let model = proto::ModelProto {
        ir_version: 8,
        producer_name: "face96".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(proto::GraphProto {
            node: out.nodes,
            name: meta.net.clone(),
            initializer: out.tensors,
            input: vec![value("input", &[1, side, side])],
            output: out.outputs,
        }),
        opset_import: vec![proto::OperatorSet { version: 13 }],
        metadata: vec![
            entry("normalisation", normalisation.as_str().unwrap_or_default()),
            entry("keypoints", &meta.schema.keypoints.join(",")),
        ],
    };
    Ok(model.encode_to_vec())
}

/// An input or output of the file: (batch, `shape`) floats.
fn value(name: &str, shape: &[i64]) -> proto::Value {
    let batch = proto::Length::Named("batch".into());
    let lengths = std::iter::once(batch).chain(shape.iter().map(|n| proto::Length::Fixed(*n)));
    let dim = lengths.map(|length| proto::Dimension { length: Some(length) }).collect();
    let tensor = proto::TensorType { element: FLOAT, shape: Some(proto::ShapeProto { dim }) };
    proto::Value { name: name.into(), kind: Some(proto::Type { tensor: Some(tensor) }) }
}

fn int(name: &str, i: usize) -> proto::Attribute {
    proto::Attribute { name: name.into(), i: Some(i as i64), kind: 2, ..Default::default() }
}

fn ints(name: &str, ints: &[usize]) -> proto::Attribute {
    let ints = ints.iter().map(|i| *i as i64).collect();
    proto::Attribute { name: name.into(), ints, kind: 7, ..Default::default() }
}

fn string(name: &str, s: &str) -> proto::Attribute {
    proto::Attribute { name: name.into(), s: Some(s.into()), kind: 3, ..Default::default() }
}

#[derive(Default)]
struct Builder {
    nodes: Vec<proto::NodeProto>,
    tensors: Vec<proto::Tensor>,
    outputs: Vec<proto::Value>,
}

impl Builder {
    /// Adds a node with one output, which gets the node's name.
    fn node(&mut self, name: &str, op: &str, inputs: &[&str], attribute: Vec<proto::Attribute>) -> String {
        self.nodes.push(proto::NodeProto {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![name.into()],
            name: name.into(),
            op_type: op.into(),
            attribute,
        });
        name.into()
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: impl IntoIterator<Item = f32>) -> String {
        self.tensors.push(proto::Tensor {
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: FLOAT,
            name: name.into(),
            raw_data: values.into_iter().flat_map(f32::to_le_bytes).collect(),
        });
        name.into()
    }

    /// A list of whole numbers. As a shape for `Reshape`, 0 keeps a length and -1 stands for the rest.
    fn ints(&mut self, name: &str, values: &[i64]) -> String {
        self.tensors.push(proto::Tensor {
            dims: vec![values.len() as i64],
            data_type: INT64,
            name: name.into(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        });
        name.into()
    }

    fn relu(&mut self, name: String, relu: bool) -> String {
        if relu {
            self.node(&format!("{name}.relu"), "Relu", &[&name], vec![])
        } else {
            name
        }
    }

    /// Adds a step and returns the name of its output.
    fn step(&mut self, graph: &Graph, node: &Node, x: &[&str], weights: &Weights) -> Result<String> {
        // Prefixed, because the file's inputs and outputs have names that steps may have too.
        let name = &format!("net.{}", node.name);
        let (h, w, c) = graph.input_shape(node);
        let of = |suffix: &str| format!("{name}.{suffix}");
        let read = |suffix: &str| {
            let name = format!("{}.{suffix}", node.name);
            let found = weights.tensor(&name).map(|(_, values)| values.to_vec());
            found.ok_or_else(|| Error::Weights(format!("tensor '{name}' is missing")))
        };
        Ok(match node.op {
            Op::Input => "input".into(),
            Op::Conv { kernel, stride, padding, channels, norm: _, relu } => {
                let weight = self.floats(&of("weight"), &[channels, c, kernel, kernel], read("weight")?);
                let bias = self.floats(&of("bias"), &[channels], read("bias")?);
                let settings = vec![
                    ints("kernel_shape", &[kernel; 2]),
                    ints("strides", &[stride; 2]),
                    ints("pads", &[padding; 4]),
                ];
                let y = self.node(name, "Conv", &[x[0], &weight, &bias], settings);
                self.relu(y, relu)
            }
            Op::MaxPool { size } => {
                self.node(name, "MaxPool", x, vec![ints("kernel_shape", &[size; 2]), ints("strides", &[size; 2])])
            }
            Op::Dense { units, relu } => {
                let values = read("weight")?;
                let rows = values.chunks_exact(h * w * c);
                let turned = rows.flat_map(|row| (0..h * w * c).map(|i| row[i % (h * w) * c + i / (h * w)]));
                let weight = self.floats(&of("weight"), &[units, h * w * c], turned);
                let bias = self.floats(&of("bias"), &[units], read("bias")?);
                let flat = self.node(&of("flat"), "Flatten", x, vec![int("axis", 1)]);
                let y = self.node(name, "Gemm", &[&flat, &weight, &bias], vec![int("transB", 1)]);
                self.relu(y, relu)
            }
            Op::Add { relu } => {
                let y = self.node(name, "Add", x, vec![]);
                self.relu(y, relu)
            }
            Op::Upsample => {
                let scales = self.floats(&of("scales"), &[4], [1., 1., 2., 2.]);
                let settings = vec![
                    string("mode", "nearest"),
                    string("coordinate_transformation_mode", "asymmetric"),
                    string("nearest_mode", "floor"),
                ];
                // The second input would be a region of interest, which this mode does not have.
                self.node(name, "Resize", &[x[0], "", &scales], settings)
            }
            Op::MeanPool => self.node(name, "GlobalAveragePool", x, vec![]),
            Op::SoftArgmax => {
                let shape = self.ints(&of("shape"), &[0, 0, -1]);
                let flat = self.node(&of("flat"), "Reshape", &[x[0], &shape], vec![]);
                let p = self.node(&of("softmax"), "Softmax", &[&flat], vec![int("axis", 2)]);
                let at = |i: usize, n: usize| (2 * i + 1) as f32 / n as f32 - 1.;
                let places: Vec<[f32; 2]> = (0..h * w).map(|i| [at(i % w, w), at(i / w, h)]).collect();
                let squares = places.iter().map(|[x, y]| x * x + y * y);
                let squares = self.floats(&of("squares"), &[h * w, 1], squares);
                let places = self.floats(&of("places"), &[h * w, 2], places.iter().copied().flatten());
                let xy = self.node(name, "MatMul", &[&p, &places], vec![]);
                let square = self.node(&of("mean_square"), "MatMul", &[&p, &squares], vec![]);
                let of_mean = self.node(&of("square_of_mean"), "ReduceSumSquare", &[&xy], vec![ints("axes", &[2])]);
                let difference = self.node(&of("difference"), "Sub", &[&square, &of_mean], vec![]);
                let variance = self.node(&of("rounded"), "Relu", &[&difference], vec![]);
                let reach = |k| weights.meta.config.reach(k);
                let (xy, variance) = if (0..c).all(|k| reach(k) == 1.) {
                    (xy, variance)
                } else {
                    let reaches = self.floats(&of("reach"), &[c, 1], (0..c).map(reach));
                    let squared = self.floats(&of("reach_squared"), &[c, 1], (0..c).map(|k| reach(k).powi(2)));
                    let xy = self.node(&of("reached"), "Mul", &[&xy, &reaches], vec![]);
                    (xy, self.node(&of("variance"), "Mul", &[&variance, &squared], vec![]))
                };
                self.node("variance", "Flatten", &[&variance], vec![int("axis", 1)]);
                self.outputs.push(value("variance", &[c as i64]));
                xy
            }
        })
    }

    /// Converts the net's units to pixels, and logits to probabilities.
    fn results(&mut self, graph: &Graph, names: &[String], weights: &Weights) {
        if weights.meta.config.finds() {
            let (h, w, c) = graph.nodes[graph.keypoints].shape;
            self.node("boxes", "Identity", &[&names[graph.keypoints]], vec![]);
            self.outputs.push(value("boxes", &[c, h, w].map(|n| n as i64)));
            return;
        }
        let keypoints = weights.meta.schema.len();
        let calibration = weights.meta.calibration.unwrap_or_default();
        let shape = self.ints("keypoints.shape", &[-1, keypoints as i64, 2]);
        let half = self.floats("keypoints.half_side", &[], [SIDE as f32 / 2.]);
        let offset = self.floats("keypoints.offset", &[], [weights.meta.config.unit_offset()]);
        let units = self.node("keypoints.units", "Reshape", &[&names[graph.keypoints], &shape], vec![]);
        let scaled = self.node("keypoints.scaled", "Mul", &[&units, &half], vec![]);
        self.node("keypoints", "Add", &[&scaled, &offset], vec![]);
        self.outputs.insert(0, value("keypoints", &[keypoints as i64, 2]));
        let Some(presence) = graph.presence else { return };
        let logits = self.node("logits", "Flatten", &[&names[presence]], vec![int("axis", 1)]);
        let [zero, one, all] = [0, 1, i64::from(i32::MAX)].map(|i| self.ints(&format!("logits.{i}"), &[i]));
        let logit = self.node("presence.logit", "Slice", &[&logits, &zero, &one, &one], vec![]);
        self.node("presence", "Sigmoid", &[&logit], vec![]);
        self.outputs.push(value("presence", &[1]));
        if graph.nodes[presence].shape.2 > 1 {
            let said = self.node("confidence.logit", "Slice", &[&logits, &one, &all, &one], vec![]);
            let scale = self.floats("confidence.scale", &[], [calibration.scale]);
            let shift = self.floats("confidence.shift", &[], [calibration.shift]);
            let scaled = self.node("confidence.scaled", "Mul", &[&said, &scale], vec![]);
            let shifted = self.node("confidence.shifted", "Add", &[&scaled, &shift], vec![]);
            self.node("confidence", "Sigmoid", &[&shifted], vec![]);
            self.outputs.push(value("confidence", &[keypoints as i64]));
        }
    }
}
