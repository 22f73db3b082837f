//! Parameter names that diffusers has given up, and files still have.

use crate::tensors::NamedTensor;

/// Attention projections before diffusers 0.15, and what they are called since.
const OLD_ATTENTION: [(&str, &str); 4] = [
    ("query", "to_q"),
    ("key", "to_k"),
    ("value", "to_v"),
    ("proj_attn", "to_out.0"),
];

/// Gives a tensor its present name; a projection that was a 1×1 convolution becomes a matrix.
pub(super) fn modernise(mut tensor: NamedTensor) -> NamedTensor {
    let Some((module, leaf)) = tensor.name.rsplit_once('.') else {
        return tensor;
    };
    let Some((block, layer)) = module.rsplit_once('.') else {
        return tensor;
    };
    let Some((_, new)) = OLD_ATTENTION.iter().find(|(old, _)| *old == layer) else {
        return tensor;
    };
    if !block.split('.').any(|part| part == "attentions") {
        return tensor;
    }
    if leaf == "weight" && tensor.shape.len() > 2 && tensor.shape[2..].iter().all(|&side| side == 1)
    {
        tensor.shape.truncate(2); // [out, in, 1, 1] -> [out, in]
    }
    tensor.name = format!("{block}.{new}.{leaf}");
    tensor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_projections_are_renamed_and_flattened() {
        let cases: [(&str, &[usize], &str, &[usize]); 6] = [
            (
                "mid_block.attentions.0.query.weight",
                &[8, 8],
                "mid_block.attentions.0.to_q.weight",
                &[8, 8],
            ),
            (
                "down_blocks.1.attentions.1.key.bias",
                &[8],
                "down_blocks.1.attentions.1.to_k.bias",
                &[8],
            ),
            (
                "up_blocks.0.attentions.2.value.weight",
                &[4, 4, 1, 1],
                "up_blocks.0.attentions.2.to_v.weight",
                &[4, 4],
            ),
            (
                "mid_block.attentions.0.proj_attn.weight",
                &[4, 4, 1],
                "mid_block.attentions.0.to_out.0.weight",
                &[4, 4],
            ),
            (
                "mid_block.attentions.0.to_q.weight",
                &[8, 8],
                "mid_block.attentions.0.to_q.weight",
                &[8, 8],
            ),
            (
                "elsewhere.query.weight",
                &[4, 4, 1, 1],
                "elsewhere.query.weight",
                &[4, 4, 1, 1],
            ),
        ];
        for (old, old_shape, new, new_shape) in cases {
            let data = vec![0.0; old_shape.iter().product()];
            let tensor = NamedTensor {
                name: old.into(),
                shape: old_shape.to_vec(),
                data,
            };
            let modern = modernise(tensor);
            assert_eq!((modern.name.as_str(), &modern.shape[..]), (new, new_shape));
        }
    }
}
