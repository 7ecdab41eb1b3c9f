# Makes t.csv and f.csv of data.csv: Rscript fit.R, with clubSandwich 0.5.8 of Debian 12 (r-cran-clubsandwich), R 4.2.2.
library(clubSandwich)
d <- read.csv("data.csv")
fit <- lm(y ~ visit * group + age, d)
rows <- list()
for (type in c("CR0", "CR2", "CR3")) {
  V <- vcovCR(fit, cluster = d$person, type = type)
  one <- coef_test(fit, vcov = V, test = "Satterthwaite")
  rows[[type]] <- data.frame(type = type, column = rownames(one), beta = coef(fit), se = one$SE, dof = one$df, p = one$p_Satt)
}
found <- do.call(rbind, rows)
found[3:6] <- lapply(found[3:6], function(x) formatC(x, digits = 12, format = "g"))
write.csv(found, "t.csv", row.names = FALSE, quote = FALSE)
C <- rbind(c(0, 1, 0, 0, 0), c(0, 0, 0, 0, 1))
tests <- list()
for (type in c("CR2", "CR3")) {
  V <- vcovCR(fit, cluster = d$person, type = type)
  w <- Wald_test(fit, constraints = C, vcov = V, test = "HTZ")
  tests[[type]] <- data.frame(type = type, F = w$Fstat, dof = w$df_denom, p = w$p_val)
}
all <- do.call(rbind, tests)
all[2:4] <- lapply(all[2:4], function(x) formatC(x, digits = 12, format = "g"))
write.csv(all, "f.csv", row.names = FALSE, quote = FALSE)
