// The formulas of a step, each for one element: the rules of the optimizers by family, and what a step does around
// them.
#pragma once

#include "stages_adam.hpp"
#include "stages_adam_variants.hpp"
#include "stages_adaptive.hpp"
#include "stages_around.hpp"
#include "stages_factored.hpp"
#include "stages_ftrl.hpp"
#include "stages_layerwise.hpp"
#include "stages_momentum.hpp"
#include "stages_muon.hpp"
#include "stages_schedule_free.hpp"
#include "stages_signs.hpp"

// Without a name for the reason given in stages_around.hpp.
namespace {

// Every stage, with the name by which core/rules_*.cpp calls it; rules also beside others.
template <class List> constexpr void list_stages(List& list) {
    list.template stage<Scale>("scale");
    list.template stage<AddDecay>("add_decay");
    list.template stage<Shrink>("shrink");
    list.template stage<Clip>("clip");
    list.template stage<Decay>("decay");
    list.template stage<DecayCautiously>("decay_cautiously");
    list.template stage<Average>("average");
    list.template stage<Assign>("assign");
    list.template stage<Exchange>("exchange");
    list.template stage<Accumulate>("accumulate");
    list.template stage<MuonDirection>("muon_direction");
    list.template stage<Muon>("muon");
    list.template rule<Sgd>("sgd");
    list.template rule<Momentum>("momentum");
    list.template rule<MomentumPlainVelocity>("momentum_plain_velocity");
    list.template rule<SgdMomentum>("sgd_momentum");
    list.template rule<SgdNesterov>("sgd_nesterov");
    list.template rule<Nesterov>("nesterov");
    list.template rule<NesterovNewVelocity>("nesterov_new_velocity");
    list.template rule<SklearnNesterov>("sklearn_nesterov");
    list.template rule<Rprop>("rprop");
    list.template rule<AdaGrad>("adagrad");
    list.template rule<Adadelta>("adadelta");
    list.template rule<AdadeltaOneRoot>("adadelta_one_root");
    list.template rule<RmsProp>("rmsprop");
    list.template rule<RmsPropCentered>("rmsprop_centered");
    list.template rule<RmsPropMomentum>("rmsprop_momentum");
    list.template rule<RmsPropCenteredMomentum>("rmsprop_centered_momentum");
    list.template rule<Adam>("adam");
    list.template rule<SklearnAdam>("sklearn_adam");
    list.template rule<AmsGrad>("amsgrad");
    list.template rule<Adamax>("adamax");
    list.template rule<RAdamStart>("radam_start");
    list.template rule<NAdam>("nadam");
    list.template stage<LambUpdate>("lamb_update");
    list.template rule<Lamb>("lamb");
    list.template rule<Lars>("lars");
    list.template rule<LarsNesterov>("lars_nesterov");
    list.template stage<StableAdamWRatio>("stable_adamw_ratio");
    list.template rule<StableAdamW>("stable_adamw");
    list.template rule<Adafactor>("adafactor");
    list.template rule<AdafactorMomentum>("adafactor_momentum");
    list.template rule<AdaBelief>("adabelief");
    list.template rule<Yogi>("yogi");
    list.template rule<FlowerYogi>("flower_yogi");
    list.template rule<LaProp>("laprop");
    list.template stage<AdoptFirst>("adopt_first");
    list.template rule<Adopt>("adopt");
    list.template rule<AdoptClipped>("adopt_clipped");
    list.template rule<AdEmaMix>("ademamix");
    list.template rule<Adan>("adan");
    list.template rule<AdanFirst>("adan_first");
    list.template rule<SignSgd>("sign_sgd");
    list.template rule<Signum>("signum");
    list.template rule<Lion>("lion");
    list.template rule<ScheduleFreeSgd>("schedule_free_sgd");
    list.template rule<ScheduleFreeAdamW>("schedule_free_adamw");
    list.template rule<Ftrl>("ftrl");
}

}  // namespace
