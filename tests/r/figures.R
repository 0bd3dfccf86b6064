# What R's `survival` says of the cohorts in a folder of CSV files, as JSON:
#
#     python tests/survival_cohorts.py FOLDER && Rscript tests/r/figures.R FOLDER > tests/r/figures.json
#
# Debian: apt-get install --no-install-recommends r-base-core r-cran-survival

library(survival)
library(splines)

json <- function(x) {
  if (is.null(x)) return("null")
  if (is.list(x)) {
    named <- mapply(function(name, one) paste0('"', name, '": ', json(one)), names(x), x)
    return(paste0("{", paste(named, collapse = ", "), "}"))
  }
  if (is.character(x)) return(paste0('"', x, '"'))
  text <- ifelse(is.na(x), "null", trimws(formatC(x, digits = 15, format = "g")))
  if (length(x) == 1) text else paste0("[", paste(text, collapse = ", "), "]")
}

# At 40 round times: the steps of a whole curve would be the patients themselves.
curve <- function(data) {
  fit <- survfit(Surv(duration, event) ~ 1, data, conf.type = "log-log")
  half <- quantile(fit, 0.5)
  at <- summary(fit, times = signif(max(data$duration) * (1:40) / 40, 3), extend = TRUE)
  list(time = at$time, survival = at$surv, low = at$lower, high = at$upper,
       median = unname(c(half$quantile, half$lower, half$upper)))
}

hazard <- function(fit) {
  about <- summary(fit)
  zph <- cox.zph(fit, transform = "km")$table[, "p"]
  list(beta = unname(coef(fit)), hr = unname(about$conf.int[, 1]), low = unname(about$conf.int[, 3]),
       high = unname(about$conf.int[, 4]), p = unname(about$coefficients[, 5]), columns = paste(names(coef(fit)), collapse = " "),
       zph = unname(zph), log_likelihood = fit$loglik[2])
}

restricted <- function(data) {
  horizon <- min(tapply(data$duration, data$high, max))
  table <- summary(survfit(Surv(duration, event) ~ high, data), rmean = horizon)$table
  list(horizon = horizon, mean = unname(table[, "rmean"]), error = unname(table[, "se(rmean)"]))
}

curved <- function(data) {
  x <- log1p(data$count)
  at <- if (sum(data$event) >= 40) c(.05, .35, .65, .95) else c(.1, .5, .9)
  knots <- unique(quantile(x, at))
  if (length(knots) < 3 || length(unique(x)) <= length(knots)) return(NULL)
  inner <- knots[2:(length(knots) - 1)]
  outer <- knots[c(1, length(knots))]
  basis <- ns(x, knots = inner, Boundary.knots = outer)
  straight <- coxph(Surv(duration, event) ~ x, data)
  fit <- coxph(Surv(duration, event) ~ basis, data)
  some <- quantile(x, c(.25, .75, 1))
  moved <- predict(basis, some) - predict(basis, rep(log1p(data$cutoff[1]), 3))
  error <- sqrt(diag(moved %*% vcov(fit) %*% t(moved)))
  list(knots = unname(knots), log_likelihood = fit$loglik[2], nonlinear_p = anova(straight, fit)[2, 4],
       counts = unname(expm1(some)), log_hr = as.vector(moved %*% coef(fit)), error = unname(error),
       zph = unname(cox.zph(fit, transform = "km")$table[1, "p"]))
}

two_counts <- function(data) {
  if (is.null(data$other)) return(NULL)
  first <- coxph(Surv(duration, event) ~ count, data)
  second <- coxph(Surv(duration, event) ~ other, data)
  both <- concordance(first, second)
  contrast <- c(1, -1)
  list(values = unname(both$concordance), signs = unname(sign(c(coef(first), coef(second)))),
       errors = unname(sqrt(diag(both$var))), error = sqrt(as.vector(contrast %*% both$var %*% contrast)))
}

with_covariates <- function(data) {
  names <- grep("^x_", names(data), value = TRUE)
  if (!length(names)) return(NULL)
  data <- data[complete.cases(data[names]) & !apply(data[names] == "", 1, any), ]
  for (name in names) if (is.character(data[[name]])) {
    levels <- table(data[[name]])
    data[[name]] <- relevel(factor(data[[name]]), names(levels)[which.max(levels)])
  }
  fit <- coxph(as.formula(paste("Surv(duration, event) ~ log1p(count) +", paste(names, collapse = " + "))), data)
  c(hazard(fit), list(n = fit$n, events = fit$nevent, concordance = unname(fit$concordance["concordance"])))
}

from_landmark <- function(data) {
  landmark <- data$landmark[1]
  left <- data[data$duration > landmark, ]
  left$duration <- left$duration - landmark
  test <- survdiff(Surv(duration, event) ~ high, left)
  list(n = nrow(left), chi2 = test$chisq,
       medians = unname(quantile(survfit(Surv(duration, event) ~ high, left), 0.5)$quantile[, 1]))
}

figures <- function(file) {
  data <- read.csv(file, na.strings = "NA")
  data$high <- data$count >= data$cutoff
  test <- survdiff(Surv(duration, event) ~ high, data)
  followed <- quantile(survfit(Surv(duration, 1 - event) ~ 1, data, conf.type = "log-log"), 0.5)
  found <- concordance(Surv(duration, event) ~ count, data, reverse = TRUE)
  list(n = nrow(data), events = sum(data$event), below = curve(data[!data$high, ]), above = curve(data[data$high, ]),
       follow_up = unname(c(followed$quantile, followed$lower, followed$upper)),
       chi2 = test$chisq, p = pchisq(test$chisq, 1, lower.tail = FALSE),
       cox = hazard(coxph(Surv(duration, event) ~ high, data)),
       cox_log_count = hazard(coxph(Surv(duration, event) ~ log1p(count), data)),
       restricted = restricted(data), spline = curved(data), multivariable = with_covariates(data),
       concordance = found$concordance, concordance_error = sqrt(found$var), two_counts = two_counts(data),
       landmark = from_landmark(data))
}

folder <- commandArgs(trailingOnly = TRUE)[1]
files <- sort(list.files(folder, "[.]csv$", full.names = TRUE))
cohorts <- lapply(files, figures)
names(cohorts) <- sub("[.]csv$", "", basename(files))
about <- list(r = paste(R.version$major, R.version$minor, sep = "."), survival = as.character(packageVersion("survival")))
cat(json(c(about, list(cohorts = cohorts))), "\n")
