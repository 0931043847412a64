"""Times training steps of PyTorch on a task that `face96 bench --files` wrote: a net as a list of steps, its first
weights, one batch, loss and optimizer. Prints one line of JSON: the losses of the first three steps, by which the driver
checks that everybody trains the same net in the same way, and the seconds of each step but the first.

    /usr/bin/python3 training.py TASK --seconds 4
"""
import argparse
import json
import time

import numpy
import torch
import torch.nn.functional as F

EPSILON = 1e-5  # of batch norm


def read_safetensors(path):
    """Metadata and f32 tensors of a safetensors file: Debian packages no reader."""
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    meta = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[start + begin : start + end], dtype="<f4").copy()
        tensors[name] = torch.from_numpy(values).reshape(entry["shape"])
    return meta, tensors


def forward(graph, weights, pictures):
    """(B, 1, 96, 96) -> keypoints (B, K, 2) and the logits of presence and confidence, (B, 1) or (B, 1 + K), or None."""
    done = []
    for node in graph["nodes"]:
        x = [done[i] for i in node["inputs"]]
        weight = lambda suffix: weights[f"{node['name']}.{suffix}"]
        op = node["op"]
        if op == "input":
            y = pictures
        elif op == "conv":
            y = F.conv2d(x[0], weight("weight"), None if node["norm"] else weight("bias"), node["stride"], node["padding"])
            if node["norm"]:
                y = F.batch_norm(
                    y,
                    weight("norm.running_mean"),
                    weight("norm.running_var"),
                    weight("norm.weight"),
                    weight("norm.bias"),
                    training=True,
                    eps=EPSILON,
                )
        elif op == "max_pool":
            y = F.max_pool2d(x[0], node["size"])
        elif op == "dense":
            y = F.linear(x[0].flatten(1), weight("weight"), weight("bias"))[:, :, None, None]
        elif op == "add":
            y = x[0] + x[1]
        elif op == "upsample":
            y = F.interpolate(x[0], scale_factor=2)
        elif op == "mean_pool":
            y = x[0].mean((2, 3), keepdim=True)
        elif op == "soft_argmax":
            b, k, h, w = x[0].shape
            p = x[0].flatten(2).softmax(2).view(b, k, h, w)
            place = lambda n: (torch.arange(n) * 2 + 1) / n - 1
            mean = lambda f: ((p.sum(2) * f(place(w))).sum(2), (p.sum(3) * f(place(h))).sum(2))
            (mx, my), (sx, sy) = mean(lambda v: v), mean(torch.square)
            y = torch.stack([mx, my, sx - mx.square() + sy - my.square()], 2)
        else:
            raise ValueError(f"step '{node['name']}': no '{op}' in training.py")
        done.append(F.relu(y) if node.get("relu") else y)
    keypoints = done[graph["keypoints"]]
    logits = None if graph["presence"] is None else done[graph["presence"]].flatten(1)
    # Heatmaps also give a variance beside x and y.
    return keypoints if keypoints.ndim == 3 else keypoints.reshape(len(pictures), -1, 2), logits


def loss_of(kind, keypoints, logits, batch):
    """As src/train/mod.rs."""
    error = (keypoints[:, :, :2] - batch["targets"]) * batch["mask"]
    if kind == "mse":
        return error.square().sum() / batch["mask"].sum()
    if kind == "laplace":
        doubt = F.relu(keypoints[:, :, 2:] * 48 * 48 - 2 * 0.6 * 16) / 4
        scale = (doubt + 0.6 * 0.6).sqrt()
        total = ((error.abs() * 48 / scale + scale.log()) * batch["mask"]).sum() / batch["mask"].sum()
    else:
        total = F.smooth_l1_loss(error * 48, torch.zeros_like(error), reduction="sum") / batch["mask"].sum()
    if logits is None:
        return total
    total = total + F.binary_cross_entropy_with_logits(logits[:, :1], batch["presence"])
    if logits.shape[1] > 1:
        right = (error.detach().square().sum(2) <= (0.05 * batch["unit"]).square()).float()
        said = F.binary_cross_entropy_with_logits(logits[:, 1:], right, weight=batch["mask"][:, :, 0], reduction="sum")
        total = total + 0.8 * said / batch["mask"].sum()
    return total


def load(path, channels_last):
    meta, tensors = read_safetensors(path)
    task = json.loads(meta["task"])
    graph = task["graph"]
    batch = {name[6:]: t for name, t in tensors.items() if name.startswith("batch.")}
    weights = {name: t for name, t in tensors.items() if not name.startswith("batch.")}
    for node in graph["nodes"]:
        name = f"{node['name']}.weight"
        if node["op"] == "dense":
            # From our (H, W, C) order to PyTorch's (C, H, W), once, as if the net had been written for PyTorch.
            h, w, c = graph["nodes"][node["inputs"][0]]["shape"]
            weights[name] = weights[name].view(-1, h, w, c).permute(0, 3, 1, 2).flatten(1).contiguous()
        elif node["op"] == "conv" and channels_last:
            weights[name] = weights[name].to(memory_format=torch.channels_last)
    batch["pictures"] = batch["pictures"].permute(0, 3, 1, 2)
    if not channels_last:
        batch["pictures"] = batch["pictures"].contiguous()
    return task, weights, batch


class Muon:
    """Muon (Jordan 2024) as Liu et al. 2025 scale it, for weights of 32 columns and more; AdamW for the others. torch.optim.Muon is
    in PyTorch 2.9 and later alone, and takes no other weights."""

    def __init__(self, weights, o):
        weights = list(weights)
        self.matrices = [w for w in weights if w.dim() > 1 and w[0].numel() >= 32]
        small = [w for w in weights if w.dim() > 1 and w[0].numel() < 32]
        plain = [w for w in weights if w.dim() == 1]
        groups = [{"params": small, "weight_decay": o["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(groups, lr=o["lr"], betas=(0.9, 0.999))
        self.momenta = [torch.zeros_like(w) for w in self.matrices]
        self.lr, self.decay = o["lr"], o["weight_decay"]

    def zero_grad(self, set_to_none):
        self.adamw.zero_grad(set_to_none=set_to_none)
        for w in self.matrices:
            w.grad = None

    @torch.no_grad()
    def step(self):
        self.adamw.step()
        for w, m in zip(self.matrices, self.momenta):
            m.lerp_(w.grad, 0.05)
            x = w.grad.lerp(m, 0.95).reshape(len(w), -1)
            x = x / x.norm()
            rows, columns = x.shape
            x = x.T if rows > columns else x
            for _ in range(5):
                square = x @ x.T
                x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
            x = x.T if rows > columns else x
            w.mul_(1 - self.lr * self.decay).sub_(x.reshape(w.shape), alpha=self.lr * 0.2 * max(rows, columns) ** 0.5)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("task")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    task, weights, batch = load(args.task, args.channels_last)
    trained = {name: w.requires_grad_() for name, w in weights.items() if "running" not in name}
    o = task["optimizer"]
    if o["kind"] == "nesterov":
        optimizer = torch.optim.SGD(trained.values(), lr=o["lr"], momentum=o["momentum"], nesterov=True)
    elif o["kind"] == "muon":
        optimizer = Muon(trained.values(), o)
    else:
        decay = [w for w in trained.values() if w.dim() > 1]
        plain = [w for w in trained.values() if w.dim() == 1]
        groups = [{"params": decay, "weight_decay": o["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=o["lr"], betas=(0.9, 0.999))
    losses, seconds = [], []
    end = None
    # The first step pays for memory that the others reuse.
    while len(seconds) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        keypoints, logits = forward(task["graph"], weights, batch["pictures"])
        loss = loss_of(task["loss"], keypoints, logits, batch)
        loss.backward()
        optimizer.step()
        value = loss.item()
        if len(losses) < 3:
            losses.append(value)
        if end is None:
            end = time.perf_counter() + args.seconds
        else:
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"batch": task["batch"], "losses": losses, "seconds": seconds}))


main()
