//! Training with less memory: what lies inside a block is computed again for its gradient instead of kept.

use burn::module::Module;
use burn::tensor::{FloatDType, Gradients, Tensor};

use crate::class_embedding::NetworkCondition;
use crate::error::UnetError;
use crate::layers::DropoutRng;
use crate::unet::{Activations, UNet2D};

impl UNet2D {
    /// The gradients of a loss with every block of the network as a checkpoint (Chen et al. 2016): kept are the
    /// skips and what each block reads, everything else is computed twice.
    ///
    /// `loss` turns the output of [`UNet2D::forward`] into one number. Returned are the gradients of the
    /// parameters, each parameter's in one of the containers.
    ///
    /// # Shapes   as [`UNet2D::forward`]; `loss` returns `[1]`
    /// # Errors   as [`UNet2D::forward`], and what `loss` says
    pub fn recomputed<E: From<UnetError>>(
        &self,
        x: Tensor<4>,
        t: Tensor<1>,
        condition: NetworkCondition,
        rng: Option<&DropoutRng>,
        loss: impl FnOnce(Tensor<4>) -> Result<Tensor<1>, E>,
    ) -> Result<Vec<Gradients>, E> {
        let padding = self.check(&x, &t)?;
        // Its own graph is small: it is kept.
        let stem = self.stem(&padding, x, &t, condition)?;
        let mut activations = Activations {
            x: stem.x.clone().inner(),
            skips: stem.skips.iter().cloned().map(Tensor::inner).collect(),
            picture: stem.picture.map(Tensor::inner),
            temb: stem.temb.clone().inner(),
        };
        let mut read = Vec::new();
        for block in 0..self.blocks() {
            read.push((activations.clone(), rng.map_or(0, DropoutRng::layers)));
            // A copy of its own each time: what it keeps of its weights for the next call goes with it.
            activations = self.valid().block(block, activations, rng);
        }

        let mut found = Vec::new();
        let last = leaf(activations.x);
        let picture = activations.picture.map(leaf);
        let output = self.head(last.clone(), picture.clone(), &padding, t);
        let mut grads = loss(output)?.backward();
        let mut behind = Behind {
            x: last.grad_remove(&mut grads),
            picture: picture.and_then(|picture| picture.grad_remove(&mut grads)),
            skips: vec![None; activations.skips.len()],
            temb: None,
        };
        found.push(grads);
        for (block, (activations, layers)) in read.into_iter().enumerate().rev() {
            if let Some(rng) = rng {
                rng.rewind(layers);
            }
            let grads = self.block_again(block, activations, rng, &mut behind);
            found.extend(grads);
        }
        let entered_x = stem.skips.into_iter().chain([stem.x]);
        let wanted = behind.skips.into_iter().chain([behind.x]);
        let mut terms: Vec<_> = entered_x.zip(wanted).map(|(y, d)| product(y, d)).collect();
        terms.push(product(stem.temb, behind.temb));
        found.extend(sum(terms).map(|objective| objective.backward()));
        Ok(found)
    }

    /// One block with its graph, and the gradients of its parameters; `behind` goes from after the block to before it.
    fn block_again(
        &self,
        block: usize,
        activations: Activations,
        rng: Option<&DropoutRng>,
        behind: &mut Behind,
    ) -> Option<Gradients> {
        // Skips that the block neither made nor takes pass it by.
        let untouched = activations.skips.len().min(behind.skips.len());
        let x = leaf(activations.x);
        let temb = leaf(activations.temb);
        let skips: Vec<_> = activations.skips.into_iter().map(leaf).collect();
        let picture = activations.picture.map(leaf);
        let after = self.block(
            block,
            Activations {
                x: x.clone(),
                skips: skips.clone(),
                picture: picture.clone(),
                temb: temb.clone(),
            },
            rng,
        );
        let made = behind.skips.split_off(untouched);
        let mut terms = vec![product(after.x, behind.x.take())];
        let of_picture = after.picture.map(|y| product(y, behind.picture.take()));
        terms.extend(of_picture);
        let pairs = after.skips.into_iter().skip(untouched).zip(made);
        terms.extend(pairs.map(|(y, d)| product(y, d)));
        let mut grads = sum(terms)?.backward();
        behind.x = x.grad_remove(&mut grads);
        behind.picture = picture.and_then(|picture| picture.grad_remove(&mut grads));
        behind.temb = match (behind.temb.take(), temb.grad_remove(&mut grads)) {
            (Some(sum), Some(d)) => Some(sum + d),
            (sum, d) => sum.or(d),
        };
        let taken = skips.into_iter().skip(untouched);
        behind
            .skips
            .extend(taken.map(|skip| skip.grad_remove(&mut grads)));
        Some(grads)
    }
}

/// The gradients of what lies behind a block, without graph.
struct Behind {
    x: Option<Tensor<4>>,
    skips: Vec<Option<Tensor<4>>>,
    picture: Option<Tensor<4>>,
    temb: Option<Tensor<2>>,
}

/// The same values as the beginning of a graph.
fn leaf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(x).require_grad()
}

/// Σ y·d, whose gradient with respect to y is d.
fn product<const D: usize>(y: Tensor<D>, d: Option<Tensor<D>>) -> Option<Tensor<1>> {
    let d = Tensor::from_inner(d?.cast(FloatDType::F32));
    let products = y.cast(FloatDType::F32) * d;
    let rows = products.dims()[0];
    let each = products.shape().num_elements() / rows;
    // Along dimensions, since `sum` adds by atomics on some GPUs: in any order.
    let sums = products.reshape([rows, each]).sum_dim(1);
    Some(sums.reshape([rows]).sum_dim(0))
}

fn sum(terms: Vec<Option<Tensor<1>>>) -> Option<Tensor<1>> {
    terms.into_iter().flatten().reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests;
