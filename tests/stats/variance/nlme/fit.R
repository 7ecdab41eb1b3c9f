# Makes shares.csv of data.csv: Rscript fit.R, with nlme 3.1-162 of Debian 12 (r-cran-nlme), R 4.2.2.
library(nlme)
d <- read.csv("data.csv")
rows <- list()
for (column in paste0("y", 1:4)) {
  d$y <- d[[column]]
  fit <- lme(y ~ visit, d, random = ~ 1 | family/subject, method = "REML", control = lmeControl(tolerance = 1e-10, msTol = 1e-12))
  v <- suppressWarnings(as.numeric(VarCorr(fit)[, "Variance"]))
  v <- v[!is.na(v)]
  rows[[column]] <- data.frame(column, family = v[1], subject = v[2], error = v[3])
}
all <- do.call(rbind, rows)
all[2:4] <- all[2:4] / rowSums(all[2:4])
all[2:4] <- lapply(all[2:4], function(x) formatC(x, digits = 8, format = "g"))
write.csv(all, "shares.csv", row.names = FALSE, quote = FALSE)
